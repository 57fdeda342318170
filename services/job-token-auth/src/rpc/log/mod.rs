//! The authentication log. All of it is for those who administer the project.

use chassis::access::{CallContext, User};
use proto::paddock::job_token::v1::{
    AutopopulateAllowlistRequest, AutopopulateAllowlistResponse, ExportAuthenticationLogCsvRequest,
    ExportAuthenticationLogCsvResponse, ExportAuthenticationLogJsonLinesRequest,
    ExportAuthenticationLogJsonLinesResponse, ListAccessEventsRequest, ListAccessEventsResponse,
    ListAuthenticationLogRequest, ListAuthenticationLogResponse, RehearseAllowlistRequest, RehearseAllowlistResponse,
    StreamAccessEventsJsonLinesRequest, StreamAccessEventsJsonLinesResponse, StreamAuthenticationLogCsvRequest,
    StreamAuthenticationLogCsvResponse, StreamAuthenticationLogJsonLinesRequest,
    StreamAuthenticationLogJsonLinesResponse, authentication_log_service_server::AuthenticationLogService,
};
use tonic::{Request, Response, Status};

use super::{State, by_user};
use crate::{
    error::{Error, Result},
    log::jsonl,
    store::log_reader::{self, Event, Events, Filter},
};

mod allowlist;
mod cursor;
mod files;
mod lists;
mod names;
mod params;

use files::{Pieces, Rows};
use params::{Criteria, Part};

/// The service.
pub struct AuthenticationLog(pub State);

#[tonic::async_trait]
impl AuthenticationLogService for AuthenticationLog {
    async fn list_authentication_log(
        &self,
        request: Request<ListAuthenticationLogRequest>,
    ) -> Result<Response<ListAuthenticationLogResponse>, Status> {
        let (user, context, asked) = by_user(request)?;
        let (since, until) = (asked.since.as_deref(), asked.until.as_deref());
        let criteria = Criteria::new(asked.direction, asked.other_project_id, asked.policy, since, until)?;
        let part = Part::new(asked.cursor.as_deref(), asked.per_page)?;
        let filter = self.filter(&asked.id, criteria, &user, &context).await?;
        let mut pairs = log_reader::pairs(&self.0.database, &filter, part.after, part.limit()).await?;
        let cursor = part.cut(&mut pairs, |pair| pair.key(filter.side));
        let entries = self.0.entries(&filter, pairs, &user, &context).await?;
        Ok(Response::new(ListAuthenticationLogResponse { entries, cursor: Some(cursor) }))
    }

    async fn list_access_events(
        &self,
        request: Request<ListAccessEventsRequest>,
    ) -> Result<Response<ListAccessEventsResponse>, Status> {
        let (user, context, asked) = by_user(request)?;
        let (since, until) = (asked.since.as_deref(), asked.until.as_deref());
        let criteria = Criteria::new(asked.direction, asked.other_project_id, asked.policy, since, until)?;
        let part = Part::new(asked.cursor.as_deref(), asked.per_page)?;
        let unresolved = asked.unresolved.unwrap_or(false);
        let events = Events { job_id: asked.job_id, user_id: asked.user_id, unresolved };
        let filter = self.filter(&asked.id, criteria, &user, &context).await?;
        let rows = log_reader::events(&self.0.database, &filter, events, part.after.as_ref(), part.limit());
        let mut rows = rows.await?;
        let cursor = part.cut(&mut rows, Event::key);
        let events = self.0.events(rows, events, &user, &context).await?;
        Ok(Response::new(ListAccessEventsResponse { events, cursor: Some(cursor) }))
    }

    type StreamAuthenticationLogCsvStream = Pieces<StreamAuthenticationLogCsvResponse>;

    async fn stream_authentication_log_csv(
        &self,
        request: Request<StreamAuthenticationLogCsvRequest>,
    ) -> Result<Response<Self::StreamAuthenticationLogCsvStream>, Status> {
        let (user, context, asked) = by_user(request)?;
        let (since, until) = (asked.since.as_deref(), asked.until.as_deref());
        let criteria = Criteria::new(asked.direction, asked.other_project_id, asked.policy, since, until)?;
        let filter = self.filter(&asked.id, criteria, &user, &context).await?;
        let document = |document| StreamAuthenticationLogCsvResponse { document: Some(document) };
        let file = self.0.file(filter, Rows::Csv, user, context);
        Ok(Response::new(file.stream(document).await?))
    }

    type StreamAuthenticationLogJsonLinesStream = Pieces<StreamAuthenticationLogJsonLinesResponse>;

    async fn stream_authentication_log_json_lines(
        &self,
        request: Request<StreamAuthenticationLogJsonLinesRequest>,
    ) -> Result<Response<Self::StreamAuthenticationLogJsonLinesStream>, Status> {
        let (user, context, asked) = by_user(request)?;
        let (since, until) = (asked.since.as_deref(), asked.until.as_deref());
        let criteria = Criteria::new(asked.direction, asked.other_project_id, asked.policy, since, until)?;
        let filter = self.filter(&asked.id, criteria, &user, &context).await?;
        let document = |document| StreamAuthenticationLogJsonLinesResponse { document: Some(document) };
        let file = self.0.file(filter, Rows::JsonLines(jsonl::File::default()), user, context);
        Ok(Response::new(file.stream(document).await?))
    }

    type StreamAccessEventsJsonLinesStream = Pieces<StreamAccessEventsJsonLinesResponse>;

    async fn stream_access_events_json_lines(
        &self,
        request: Request<StreamAccessEventsJsonLinesRequest>,
    ) -> Result<Response<Self::StreamAccessEventsJsonLinesStream>, Status> {
        let (user, context, asked) = by_user(request)?;
        let (since, until) = (asked.since.as_deref(), asked.until.as_deref());
        let criteria = Criteria::new(asked.direction, asked.other_project_id, asked.policy, since, until)?;
        let unresolved = asked.unresolved.unwrap_or(false);
        let events = Events { job_id: asked.job_id, user_id: asked.user_id, unresolved };
        let filter = self.filter(&asked.id, criteria, &user, &context).await?;
        let document = |document| StreamAccessEventsJsonLinesResponse { document: Some(document) };
        let file = self.0.file(filter, Rows::Events(jsonl::File::default(), events), user, context);
        Ok(Response::new(file.stream(document).await?))
    }

    async fn export_authentication_log_csv(
        &self,
        request: Request<ExportAuthenticationLogCsvRequest>,
    ) -> Result<Response<ExportAuthenticationLogCsvResponse>, Status> {
        let (user, context, asked) = by_user(request)?;
        let (since, until) = (asked.since.as_deref(), asked.until.as_deref());
        let criteria = Criteria::new(asked.direction, asked.other_project_id, asked.policy, since, until)?;
        let filter = self.filter(&asked.id, criteria, &user, &context).await?;
        let document = self.0.file(filter, Rows::Csv, user, context).whole().await?;
        Ok(Response::new(ExportAuthenticationLogCsvResponse { document: Some(document) }))
    }

    async fn export_authentication_log_json_lines(
        &self,
        request: Request<ExportAuthenticationLogJsonLinesRequest>,
    ) -> Result<Response<ExportAuthenticationLogJsonLinesResponse>, Status> {
        let (user, context, asked) = by_user(request)?;
        let (since, until) = (asked.since.as_deref(), asked.until.as_deref());
        let criteria = Criteria::new(asked.direction, asked.other_project_id, asked.policy, since, until)?;
        let filter = self.filter(&asked.id, criteria, &user, &context).await?;
        let document = self.0.file(filter, Rows::JsonLines(jsonl::File::default()), user, context).whole().await?;
        Ok(Response::new(ExportAuthenticationLogJsonLinesResponse { document: Some(document) }))
    }

    async fn rehearse_allowlist(
        &self,
        request: Request<RehearseAllowlistRequest>,
    ) -> Result<Response<RehearseAllowlistResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        Ok(Response::new(self.0.rehearse(&request, &user, &context).await?))
    }

    async fn autopopulate_allowlist(
        &self,
        request: Request<AutopopulateAllowlistRequest>,
    ) -> Result<Response<AutopopulateAllowlistResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        Ok(Response::new(self.0.autopopulate(&request, &user, &context).await?))
    }
}

impl AuthenticationLog {
    async fn filter(&self, project: &str, criteria: Criteria, user: &User, context: &CallContext) -> Result<Filter> {
        let project = self.0.administered(project, user, context).await?.project;
        let project = project.ok_or_else(|| Error::internal("an answer on a project is without the project"))?;
        Ok(criteria.of(project.id))
    }
}

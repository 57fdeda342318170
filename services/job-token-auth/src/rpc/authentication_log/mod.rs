//! The authentication log of a project, for users who administer the project.

use proto::paddock::job_token::v1::{
    AutopopulateAllowlistRequest, AutopopulateAllowlistResponse, DryRunAllowlistRequest, DryRunAllowlistResponse,
    ListAccessEventsRequest, ListAccessEventsResponse, ListAuthenticationLogRequest, ListAuthenticationLogResponse,
    StreamAccessEventsJsonLinesRequest, StreamAccessEventsJsonLinesResponse, StreamAuthenticationLogCsvRequest,
    StreamAuthenticationLogCsvResponse, StreamAuthenticationLogJsonLinesRequest,
    StreamAuthenticationLogJsonLinesResponse, authentication_log_service_server::AuthenticationLogService,
};
use tonic::{Request, Response, Status};

use super::{State, state::UserCall};
use crate::store::log_reader::{self, EventFilter, EventRow};

mod autopopulate;
mod cursor;
mod dry_run;
mod export;
mod messages;
mod parameters;
mod project_names;
mod usage;

use self::{
    export::{ChunkStream, ExportFormat},
    parameters::{LogRequest, PageRequest},
};

/// The service.
pub struct AuthenticationLog(pub State);

#[tonic::async_trait]
impl AuthenticationLogService for AuthenticationLog {
    async fn list_authentication_log(
        &self,
        request: Request<ListAuthenticationLogRequest>,
    ) -> Result<Response<ListAuthenticationLogResponse>, Status> {
        let request = LogRequest::read(request)?;
        let page = PageRequest::new(request.message.cursor.as_deref(), request.message.per_page)?;
        let filter = self.0.log_filter(&request).await?;
        let mut pairs = log_reader::pairs(&self.0.database, &filter, page.after, page.limit()).await?;
        let cursor = page.truncate(&mut pairs, |pair| pair.position(filter.side));
        let entries = self.0.log_entries(&filter, pairs, &request.call).await?;
        Ok(Response::new(ListAuthenticationLogResponse { entries, cursor: Some(cursor) }))
    }

    async fn list_access_events(
        &self,
        request: Request<ListAccessEventsRequest>,
    ) -> Result<Response<ListAccessEventsResponse>, Status> {
        let request = LogRequest::read(request)?;
        let page = PageRequest::new(request.message.cursor.as_deref(), request.message.per_page)?;
        let event_filter = EventFilter {
            job_id: request.message.job_id,
            user_id: request.message.user_id,
            unresolved: request.message.unresolved.unwrap_or(false),
        };
        let filter = self.0.log_filter(&request).await?;
        let rows = log_reader::events(&self.0.database, &filter, event_filter, page.after.as_ref(), page.limit());
        let mut rows = rows.await?;
        let cursor = page.truncate(&mut rows, EventRow::position);
        let events = self.0.access_events(rows, event_filter, &request.call).await?;
        Ok(Response::new(ListAccessEventsResponse { events, cursor: Some(cursor) }))
    }

    type StreamAuthenticationLogCsvStream = ChunkStream<StreamAuthenticationLogCsvResponse>;

    async fn stream_authentication_log_csv(
        &self,
        request: Request<StreamAuthenticationLogCsvRequest>,
    ) -> Result<Response<Self::StreamAuthenticationLogCsvStream>, Status> {
        let request = LogRequest::read(request)?;
        let export = self.0.export(request, ExportFormat::Csv).await?;
        let chunks = export.stream(|document| StreamAuthenticationLogCsvResponse { document: Some(document) });
        Ok(Response::new(chunks.await?))
    }

    type StreamAuthenticationLogJsonLinesStream = ChunkStream<StreamAuthenticationLogJsonLinesResponse>;

    async fn stream_authentication_log_json_lines(
        &self,
        request: Request<StreamAuthenticationLogJsonLinesRequest>,
    ) -> Result<Response<Self::StreamAuthenticationLogJsonLinesStream>, Status> {
        let request = LogRequest::read(request)?;
        let export = self.0.export(request, ExportFormat::JsonLines(self.0.json_lines())).await?;
        let chunks = export.stream(|document| StreamAuthenticationLogJsonLinesResponse { document: Some(document) });
        Ok(Response::new(chunks.await?))
    }

    type StreamAccessEventsJsonLinesStream = ChunkStream<StreamAccessEventsJsonLinesResponse>;

    async fn stream_access_events_json_lines(
        &self,
        request: Request<StreamAccessEventsJsonLinesRequest>,
    ) -> Result<Response<Self::StreamAccessEventsJsonLinesStream>, Status> {
        let request = LogRequest::read(request)?;
        let event_filter = EventFilter {
            job_id: request.message.job_id,
            user_id: request.message.user_id,
            unresolved: request.message.unresolved.unwrap_or(false),
        };
        let format = ExportFormat::EventJsonLines(self.0.json_lines(), event_filter);
        let export = self.0.export(request, format).await?;
        let chunks = export.stream(|document| StreamAccessEventsJsonLinesResponse { document: Some(document) });
        Ok(Response::new(chunks.await?))
    }

    async fn dry_run_allowlist(
        &self,
        request: Request<DryRunAllowlistRequest>,
    ) -> Result<Response<DryRunAllowlistResponse>, Status> {
        let (call, request) = UserCall::read(request)?;
        Ok(Response::new(self.0.dry_run_allowlist(&request, &call).await?))
    }

    async fn autopopulate_allowlist(
        &self,
        request: Request<AutopopulateAllowlistRequest>,
    ) -> Result<Response<AutopopulateAllowlistResponse>, Status> {
        let (call, request) = UserCall::read(request)?;
        Ok(Response::new(self.0.autopopulate_allowlist(&request, &call).await?))
    }
}

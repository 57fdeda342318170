//! The calls of users on runners.

use chassis::access::User;
use proto::paddock::{page::v1::Page, runner::v1 as wire};
use tonic::{Request, Response, Status};
use wire::runner_service_server::RunnerService;

use self::{list::Parameters, message::RunnerContext};
use crate::{
    directory::permission::Permissions,
    entity::{project, runner},
    error::{Error, Result},
    rpc::{
        State, by_user,
        objects::{self, VisibleObject},
        token_events,
    },
    store::{
        managers, projects,
        runner_lists::{self, RunnerScope},
        runner_token_events, runner_tokens, runners,
    },
};

mod access;
mod assign;
mod create;
mod events;
mod list;
mod message;
mod reset;
mod update;

/// Serves `RunnerService`.
#[derive(Clone)]
pub struct Runners(pub State);

impl Runners {
    async fn list_page(&self, scope: RunnerScope, parameters: Parameters) -> Result<(Vec<wire::Runner>, Option<Page>)> {
        let (filter, window) = parameters.read()?;
        let now = self.0.clock.now();
        let page = runner_lists::list(&self.0.database, scope, filter, window, now).await?;
        message::page(&self.0.database, page, now).await
    }

    async fn runner_details(
        &self,
        user: &User,
        runner: runner::Model,
        permissions: Permissions,
        include_projects: bool,
    ) -> Result<wire::RunnerDetails> {
        let db = &self.0.database;
        let context = RunnerContext::of(db, std::slice::from_ref(&runner), self.0.clock.now()).await?;
        let projects = match include_projects {
            true => runners::visible_projects(db, (!user.admin).then_some(user.id), runner.id).await?,
            false => Vec::new(),
        };
        let projects = projects::locate(db, projects).await?.into_iter().map(message::project).collect();
        let groups = self.visible_group(user, &runner).await?.into_iter().collect();
        let may_administer = permissions.may_administer_runner(runner.runner_type);
        Ok(context.details(runner, projects, groups, may_administer))
    }

    async fn visible_group(&self, user: &User, runner: &runner::Model) -> Result<Option<wire::RunnerGroup>> {
        let Some(group_id) = runner.group_id else { return Ok(None) };
        match objects::group_by_number(&self.0.database, user, group_id).await {
            Ok(VisibleObject { model, .. }) => {
                Ok(Some(wire::RunnerGroup { id: model.id, name: model.name, full_path: model.full_path }))
            }
            Err(Error::GroupNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn maintained_project(&self, user: &User, id: &str) -> Result<project::Model> {
        objects::project(&self.0.database, user, id).await?.check(Permissions::may_maintain_project)
    }
}

/// The parameters of one of the lists: its requests are of different types and have the same fields.
macro_rules! parameters {
    ($request:ident, scope: $scope:expr) => {
        Parameters {
            scope: $scope,
            runner_type: $request.r#type,
            status: $request.status,
            paused: $request.paused,
            tag_list: $request.tag_list,
            version_prefix: $request.version_prefix,
            page: $request.page,
            per_page: $request.per_page,
        }
    };
}

#[tonic::async_trait]
impl RunnerService for Runners {
    async fn create_runner(
        &self,
        request: Request<wire::CreateRunnerRequest>,
    ) -> Result<Response<wire::CreateRunnerResponse>, Status> {
        let caller = token_events::calling_user(&request)?;
        let (user, request) = by_user(request)?;
        Ok(Response::new(create::create(&self.0, &user, &caller, request).await?))
    }

    async fn list_runners(
        &self,
        request: Request<wire::ListRunnersRequest>,
    ) -> Result<Response<wire::ListRunnersResponse>, Status> {
        let (user, request) = by_user(request)?;
        let scope = if user.admin { RunnerScope::All } else { RunnerScope::AdministeredBy(user.id) };
        let parameters = parameters!(request, scope: request.scope);
        let (runners, page) = self.list_page(scope, parameters).await?;
        Ok(Response::new(wire::ListRunnersResponse { runners, page }))
    }

    async fn list_all_runners(
        &self,
        request: Request<wire::ListAllRunnersRequest>,
    ) -> Result<Response<wire::ListAllRunnersResponse>, Status> {
        let request = request.into_inner();
        let parameters = parameters!(request, scope: request.scope);
        let (runners, page) = self.list_page(RunnerScope::All, parameters).await?;
        Ok(Response::new(wire::ListAllRunnersResponse { runners, page }))
    }

    async fn get_runner(
        &self,
        request: Request<wire::GetRunnerRequest>,
    ) -> Result<Response<wire::GetRunnerResponse>, Status> {
        let (user, request) = by_user(request)?;
        let (runner, permissions) = access::seen_runner(&self.0, &user, request.id).await?;
        let details = self.runner_details(&user, runner, permissions, request.include_projects.unwrap_or(true)).await?;
        Ok(Response::new(wire::GetRunnerResponse { runner: Some(details) }))
    }

    async fn update_runner(
        &self,
        request: Request<wire::UpdateRunnerRequest>,
    ) -> Result<Response<wire::UpdateRunnerResponse>, Status> {
        let (user, request) = by_user(request)?;
        let id = request.id;
        let changes = update::read(request)?;
        let (_, permissions) = access::administered_runner(&self.0, &user, id).await?;
        let runner = update::update(&self.0, id, changes).await?;
        let details = self.runner_details(&user, runner, permissions, true).await?;
        Ok(Response::new(wire::UpdateRunnerResponse { runner: Some(details) }))
    }

    async fn delete_runner(
        &self,
        request: Request<wire::DeleteRunnerRequest>,
    ) -> Result<Response<wire::DeleteRunnerResponse>, Status> {
        let (user, request) = by_user(request)?;
        let runner = runners::find(&self.0.database, request.id).await?;
        if !user.admin && runners::count_projects(&self.0.database, runner.id).await? > 1 {
            return Err(Error::RunnerSharedByProjects.into());
        }
        let (runner, _) = access::administered_runner(&self.0, &user, runner.id).await?;
        runners::delete(&self.0.database, runner.id, self.0.clock.now()).await?;
        Ok(Response::new(wire::DeleteRunnerResponse {}))
    }

    async fn list_runner_managers(
        &self,
        request: Request<wire::ListRunnerManagersRequest>,
    ) -> Result<Response<wire::ListRunnerManagersResponse>, Status> {
        let (user, request) = by_user(request)?;
        let (runner, _) = access::seen_runner(&self.0, &user, request.id).await?;
        let now = self.0.clock.now();
        let managers = managers::list(&self.0.database, runner.id).await?;
        let current = runner_tokens::current(&self.0.database, &[runner.id]).await?;
        let generation = current.get(&runner.id).map(|token| token.generation);
        let managers = managers.into_iter().map(|row| message::manager(row, generation, now)).collect();
        Ok(Response::new(wire::ListRunnerManagersResponse { managers }))
    }

    async fn list_runner_token_events(
        &self,
        request: Request<wire::ListRunnerTokenEventsRequest>,
    ) -> Result<Response<wire::ListRunnerTokenEventsResponse>, Status> {
        let (user, request) = by_user(request)?;
        let (filter, window) = events::read(&request)?;
        let (runner, _) = access::administered_runner(&self.0, &user, request.id).await?;
        let now = self.0.clock.now();
        let listed = runner_token_events::list(&self.0.database, runner.id, filter, window, now).await?;
        let listed = listed.map(events::message);
        Ok(Response::new(wire::ListRunnerTokenEventsResponse { events: listed.items, page: Some(listed.page) }))
    }

    async fn reset_runner_authentication_token(
        &self,
        request: Request<wire::ResetRunnerAuthenticationTokenRequest>,
    ) -> Result<Response<wire::ResetRunnerAuthenticationTokenResponse>, Status> {
        let caller = token_events::calling_user(&request)?;
        let (user, request) = by_user(request)?;
        let (runner, _) = access::administered_runner(&self.0, &user, request.id).await?;
        Ok(Response::new(reset::reset(&self.0, &caller, runner.id).await?))
    }

    async fn list_project_runners(
        &self,
        request: Request<wire::ListProjectRunnersRequest>,
    ) -> Result<Response<wire::ListProjectRunnersResponse>, Status> {
        let (user, request) = by_user(request)?;
        let project = self.maintained_project(&user, &request.id).await?;
        let parameters = parameters!(request, scope: request.scope);
        let (runners, page) = self.list_page(RunnerScope::Project(project), parameters).await?;
        Ok(Response::new(wire::ListProjectRunnersResponse { runners, page }))
    }

    async fn assign_runner(
        &self,
        request: Request<wire::AssignRunnerRequest>,
    ) -> Result<Response<wire::AssignRunnerResponse>, Status> {
        let (user, request) = by_user(request)?;
        let project = self.maintained_project(&user, &request.id).await?;
        let runner = assign::assign(&self.0, &user, &project, request.runner_id).await?;
        let now = self.0.clock.now();
        let context = RunnerContext::of(&self.0.database, std::slice::from_ref(&runner), now).await?;
        Ok(Response::new(wire::AssignRunnerResponse { runner: Some(context.runner(runner)) }))
    }

    async fn unassign_runner(
        &self,
        request: Request<wire::UnassignRunnerRequest>,
    ) -> Result<Response<wire::UnassignRunnerResponse>, Status> {
        let (user, request) = by_user(request)?;
        let project = self.maintained_project(&user, &request.id).await?;
        assign::unassign(&self.0, &user, &project, request.runner_id).await?;
        Ok(Response::new(wire::UnassignRunnerResponse {}))
    }

    async fn list_group_runners(
        &self,
        request: Request<wire::ListGroupRunnersRequest>,
    ) -> Result<Response<wire::ListGroupRunnersResponse>, Status> {
        let (user, request) = by_user(request)?;
        let group = objects::group(&self.0.database, &user, &request.id).await?;
        let group = group.check(Permissions::may_see_group_runners)?;
        let parameters = parameters!(request, scope: None);
        let (runners, page) = self.list_page(RunnerScope::Group(group.id), parameters).await?;
        Ok(Response::new(wire::ListGroupRunnersResponse { runners, page }))
    }
}

//! What each role may do with a runner, and what each role sees of it.

use proto::{
    paddock::{
        directory::v1::{Group, Project, UpdateProjectRequest, Visibility},
        runner::v1::{
            DeleteRunnerRequest, GetRunnerRequest, ListRunnerManagersRequest, ListRunnerTokenEventsRequest,
            ResetRunnerAuthenticationTokenRequest, RunnerDetails, UpdateRunnerRequest,
        },
    },
    role::Role,
};

use super::{details, instance, of_group, of_project};
use crate::support::{Actor, Answer as _, Registry, both_databases};

/// The outcome of each call on a runner: read, managers, events, update, reset, delete.
async fn outcomes(actor: &Actor, id: i64) -> [Option<&'static str>; 6] {
    fn code<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, tonic::Status>) -> Option<&'static str> {
        answer.is_err().then(|| answer.reason())
    }
    let client = actor.runners();
    let update = UpdateRunnerRequest { id, description: Some("changed".into()), ..Default::default() };
    let events = ListRunnerTokenEventsRequest { id, ..Default::default() };
    let reset = ResetRunnerAuthenticationTokenRequest { id };
    [
        code(client.clone().get_runner(GetRunnerRequest { id, include_projects: None }).await),
        code(client.clone().list_runner_managers(ListRunnerManagersRequest { id }).await),
        code(client.clone().list_runner_token_events(events).await),
        code(client.clone().update_runner(update).await),
        code(client.clone().reset_runner_authentication_token(reset).await),
        code(client.clone().delete_runner(DeleteRunnerRequest { id }).await),
    ]
}

const DENIED: Option<&str> = Some("access_denied");
const ALL: [Option<&str>; 6] = [None; 6];
const NOTHING: [Option<&str>; 6] = [DENIED; 6];
const SEEN: [Option<&str>; 6] = [None, None, DENIED, DENIED, DENIED, DENIED];

async fn scene(registry: &Registry) -> (Group, Project) {
    let group = registry.group("group", None).await;
    let below = registry.group("below", Some(&group)).await;
    let project = registry.project("project", &below).await;
    (group, project)
}

fn project_ids(runner: &RunnerDetails) -> Vec<i64> {
    runner.projects.iter().map(|project| project.id).collect()
}

both_databases! {
    async fn a_role_in_the_group_above_decides(registry) {
        let (group, project) = scene(registry).await;
        let roles = [
            ("none", None, SEEN, NOTHING, NOTHING),
            ("guest", Some(Role::Guest), SEEN, NOTHING, NOTHING),
            ("developer", Some(Role::Developer), SEEN, NOTHING, NOTHING),
            ("maintainer", Some(Role::Maintainer), SEEN, SEEN, ALL),
            ("owner", Some(Role::Owner), SEEN, ALL, ALL),
        ];
        for (name, role, shared, grouped, of_the_project) in roles {
            let user = registry.user(name).await;
            if let Some(role) = role {
                registry.join_group(&user, &group, role).await;
            }
            let cases = [(instance(), shared), (of_group(&group), grouped), (of_project(&project), of_the_project)];
            for (request, expected) in cases {
                let runner = registry.create(request.clone()).await;
                assert_eq!(outcomes(&user, runner.id).await, expected, "{name} {request:?}");
            }
        }
        for request in [instance(), of_group(&group), of_project(&project)] {
            let runner = registry.create(request).await;
            assert_eq!(outcomes(&registry.root(), runner.id).await, ALL);
        }
    }

    async fn a_role_in_one_of_its_projects_is_enough(registry) {
        let (group, project) = scene(registry).await;
        let runner = registry.create(of_project(&project)).await;
        let stranger = registry.user("stranger").await;
        let other = registry.project("other", &group).await;
        registry.join_project(&stranger, &other, Role::Owner).await;
        assert_eq!(outcomes(&stranger, runner.id).await, NOTHING);
        let maintainer = registry.user("maintainer").await;
        registry.join_project(&maintainer, &project, Role::Maintainer).await;
        assert_eq!(outcomes(&maintainer, runner.id).await, ALL);
    }

    async fn a_runner_that_is_not_there_is_not_found(registry) {
        let user = registry.user("user").await;
        for actor in [&user, &registry.root()] {
            for id in [0, -1, i64::MAX] {
                assert_eq!(outcomes(actor, id).await, [Some("runner_not_found"); 6]);
            }
        }
    }

    async fn details_show_no_more_than_the_caller_may_see(registry) {
        let (_, project) = scene(registry).await;
        let hidden = registry.project("hidden", &registry.group("elsewhere", None).await).await;
        let shown = registry.project("shown", &registry.group("open", None).await).await;
        let runner = registry.create(of_project(&project)).await;
        for other in [&hidden, &shown] {
            let assign = proto::paddock::runner::v1::AssignRunnerRequest { id: other.id.to_string(), runner_id: runner.id };
            registry.root().runners().assign_runner(assign).await.answer();
        }
        let maintainer = registry.user("maintainer").await;
        registry.join_project(&maintainer, &project, Role::Maintainer).await;
        registry.join_project(&maintainer, &shown, Role::Guest).await;
        assert_eq!(project_ids(&details(&maintainer, runner.id).await), [project.id, shown.id]);
        assert_eq!(project_ids(&registry.details(runner.id).await), [project.id, hidden.id, shown.id]);
        let without = GetRunnerRequest { id: runner.id, include_projects: Some(false) };
        let without = maintainer.runners().get_runner(without).await.answer().runner.unwrap();
        assert_eq!(project_ids(&without), [0i64; 0]);
    }

    async fn the_maintenance_note_is_for_those_who_may_change_the_runner(registry) {
        let (group, _) = scene(registry).await;
        let request = proto::paddock::runner::v1::CreateRunnerRequest {
            maintenance_note: Some("note".into()),
            ..of_group(&group)
        };
        let runner = registry.create(request).await;
        let maintainer = registry.user("maintainer").await;
        registry.join_group(&maintainer, &group, Role::Maintainer).await;
        assert_eq!(details(&maintainer, runner.id).await.maintenance_note, None);
        assert_eq!(registry.details(runner.id).await.maintenance_note.as_deref(), Some("note"));
    }

    async fn a_public_project_shows_its_runner_to_maintainers_only(registry) {
        let group = registry.group("group", None).await;
        let group = proto::paddock::directory::v1::UpdateGroupRequest {
            id: group.id.to_string(),
            visibility: Some(Visibility::Public.into()),
            ..Default::default()
        };
        let group = registry.root().groups().update_group(group).await.answer().group.unwrap();
        let project = registry.project("project", &group).await;
        let request = UpdateProjectRequest {
            id: project.id.to_string(),
            visibility: Some(Visibility::Public.into()),
            ..Default::default()
        };
        registry.root().projects().update_project(request).await.answer();
        let runner = registry.create(of_project(&project)).await;
        let stranger = registry.user("stranger").await;
        assert_eq!(outcomes(&stranger, runner.id).await, NOTHING);
    }
}

//! The creation of runners: what is stored, the texts of refusals, and who may create what.

use proto::{
    paddock::{
        contract::v1::CredentialKind,
        runner::v1::{CreateRunnerRequest, RunnerAccessLevel, RunnerStatus, RunnerType},
    },
    role::Role,
};
use runner_registry::entity::runner_token;
use sea_orm::EntityTrait as _;
use sha2::{Digest as _, Sha256};

use super::{details, instance, of_group, of_project, seconds};
use crate::support::{Answer as _, both_databases};

fn of_type(runner_type: i32, group_id: Option<i64>, project_id: Option<i64>) -> CreateRunnerRequest {
    CreateRunnerRequest { runner_type, group_id, project_id, ..Default::default() }
}

both_databases! {
    async fn each_type_gets_a_token_that_names_it_and_works(registry) {
        let group = registry.group("group", None).await;
        let project = registry.project("project", &group).await;
        let prefix = CredentialKind::RunnerToken.spec().unwrap().prefix;
        let cases = [
            (instance(), RunnerType::InstanceType, "t1_"),
            (of_group(&group), RunnerType::GroupType, "t2_"),
            (of_project(&project), RunnerType::ProjectType, "t3_"),
        ];
        for (request, runner_type, part) in cases {
            let created = registry.create(request).await;
            assert!(created.token.starts_with(&format!("{prefix}{part}")), "{runner_type:?}");
            assert_eq!((created.token_expires_at, created.token_rotation_deadline), (None, None));
            let verified = registry.verify(&created.token).await.answer();
            assert_eq!((verified.id, verified.token_expires_at), (created.id, None));
            assert_eq!(verified.token, created.token);
            assert_eq!(registry.details(created.id).await.runner_type(), runner_type);
        }
    }

    async fn what_is_not_given_has_its_default(registry) {
        let created = registry.create(instance()).await;
        let runner = registry.details(created.id).await;
        assert_eq!((runner.description.clone(), runner.maintenance_note.clone(), runner.name.clone()), (None, None, None));
        assert!(runner.active && !runner.paused && !runner.locked && runner.run_untagged && runner.is_shared);
        assert_eq!(runner.access_level(), RunnerAccessLevel::NotProtected);
        assert_eq!((runner.maximum_timeout, runner.tag_list.len()), (None, 0));
        assert_eq!((runner.status(), runner.online), (RunnerStatus::NeverContacted, None));
        assert_eq!((seconds(runner.created_at), runner.contacted_at), (Some(0), None));
        assert!(!runner.unassigned && runner.projects.is_empty() && runner.groups.is_empty());
    }

    async fn what_is_given_is_kept(registry) {
        let group = registry.group("group", None).await;
        let project = registry.project("project", &group).await;
        let request = CreateRunnerRequest {
            description: Some("builds".into()),
            maintenance_note: Some("ask Ann".into()),
            paused: Some(true),
            locked: Some(true),
            access_level: Some(RunnerAccessLevel::RefProtected.into()),
            run_untagged: Some(false),
            tag_list: vec!["linux , docker".into(), "linux".into(), String::new()],
            maximum_timeout: Some(600),
            ..of_project(&project)
        };
        let created = registry.create(request).await;
        let runner = registry.details(created.id).await;
        assert_eq!(runner.description.as_deref(), Some("builds"));
        assert_eq!(runner.maintenance_note.as_deref(), Some("ask Ann"));
        assert!(!runner.active && runner.paused && runner.locked && !runner.run_untagged && !runner.is_shared);
        assert_eq!(runner.access_level(), RunnerAccessLevel::RefProtected);
        assert_eq!((runner.maximum_timeout, runner.tag_list.as_slice()), (Some(600), ["linux", "docker"].map(String::from).as_slice()));
        let [shown] = runner.projects.as_slice() else { panic!("{runner:?}") };
        assert_eq!((shown.id, shown.name.as_str(), shown.path.as_str()), (project.id, "PROJECT", "project"));
        assert_eq!(shown.name_with_namespace, "GROUP / PROJECT");
        assert_eq!(shown.path_with_namespace, "group/project");
    }

    async fn a_group_runner_shows_its_group(registry) {
        let created = registry.create(of_group(&registry.group("group", None).await)).await;
        let runner = registry.details(created.id).await;
        let groups: Vec<_> = runner.groups.iter().map(|group| (group.name.as_str(), group.full_path.as_str())).collect();
        assert_eq!(groups, [("GROUP", "group")]);
        assert!(runner.projects.is_empty() && !runner.unassigned);
    }

    async fn only_the_digest_of_the_token_is_stored(registry) {
        let created = registry.create(instance()).await;
        let rows = runner_token::Entity::find().all(&registry.database).await.unwrap();
        let [row] = rows.as_slice() else { panic!("{} tokens", rows.len()) };
        assert_eq!(row.digest, Sha256::digest(&created.token).to_vec());
        assert_eq!((row.generation, &row.sealed, &row.predecessor_id), (1, &None, &None));
    }

    async fn the_type_decides_which_id_must_come(registry) {
        let group = registry.group("group", None).await;
        let project = registry.project("project", &group).await;
        let group = Some(group.id);
        let project = Some(project.id);
        let cases = [
            (of_type(0, None, None), "parameter_missing", "runner_type is missing"),
            (of_type(4, None, None), "parameter_invalid", "runner_type does not have a valid value"),
            (of_type(2, None, None), "parameter_missing", "group_id is missing"),
            (of_type(3, None, None), "parameter_missing", "project_id is missing"),
            (of_type(1, group, None), "parameter_invalid", "group_id is invalid"),
            (of_type(1, None, project), "parameter_invalid", "project_id is invalid"),
            (of_type(2, None, project), "parameter_invalid", "project_id is invalid"),
            (of_type(3, group, None), "parameter_invalid", "group_id is invalid"),
            (of_type(2, group, project), "parameter_invalid", "group_id, project_id are mutually exclusive"),
            (of_type(2, Some(9_999), None), "bad_request", "400 Bad request - Missing/invalid scope"),
            (of_type(3, None, Some(i64::MAX)), "bad_request", "400 Bad request - Missing/invalid scope"),
            (of_type(3, None, Some(-1)), "bad_request", "400 Bad request - Missing/invalid scope"),
            (
                CreateRunnerRequest { access_level: Some(3), ..instance() },
                "parameter_invalid",
                "access_level does not have a valid value",
            ),
        ];
        for (request, reason, message) in cases {
            let refusal = registry.root().runners().create_runner(request.clone()).await.refusal();
            assert_eq!((refusal.spec().code, refusal.message()), (reason, message), "{request:?}");
        }
    }

    async fn an_invalid_runner_is_refused_with_all_texts_in_one_sentence(registry) {
        let untagged = "Tags list can not be empty when runner is not allowed to pick untagged jobs";
        let many: Vec<String> = (0..51).map(|number| number.to_string()).collect();
        let cases = [
            (CreateRunnerRequest { run_untagged: Some(false), ..instance() }, untagged.to_owned()),
            (
                CreateRunnerRequest { run_untagged: Some(false), maximum_timeout: Some(599), ..instance() },
                format!("Maximum timeout needs to be at least 10 minutes and {untagged}"),
            ),
            (
                CreateRunnerRequest { description: Some("x".repeat(1025)), ..instance() },
                "Description is too long (maximum is 1024 characters)".to_owned(),
            ),
            (
                CreateRunnerRequest { tag_list: many, ..instance() },
                "Tags list Too many tags specified. Please limit the number of tags to 50".to_owned(),
            ),
            (CreateRunnerRequest { maintenance_note: Some("\0".into()), ..instance() }, "Maintenance note is invalid".to_owned()),
            (CreateRunnerRequest { tag_list: vec!["a\0".into()], ..instance() }, "Tags list is invalid".to_owned()),
        ];
        for (request, sentence) in cases {
            let refusal = registry.root().runners().create_runner(request).await.refusal();
            assert_eq!(refusal.spec().code, "bad_request");
            assert_eq!(refusal.message(), format!("400 Bad request - {sentence}"));
        }
    }

    async fn who_may_create_depends_on_type_and_role(registry) {
        let group = registry.group("group", None).await;
        let below = registry.group("below", Some(&group)).await;
        let project = registry.project("project", &below).await;
        let roles = [
            ("guest", Role::Guest, false, false),
            ("developer", Role::Developer, false, false),
            ("maintainer", Role::Maintainer, false, true),
            ("owner", Role::Owner, true, true),
        ];
        for (name, role, in_group, in_project) in roles {
            let user = registry.user(name).await;
            registry.join_group(&user, &group, role).await;
            let cases = [(instance(), false), (of_group(&below), in_group), (of_project(&project), in_project)];
            for (request, allowed) in cases {
                let answer = user.runners().create_runner(request.clone()).await;
                if allowed {
                    answer.answer();
                } else {
                    assert_eq!(answer.reason(), "insufficient_permissions", "{name} {request:?}");
                }
            }
        }
    }

    async fn parameters_are_checked_before_the_permission(registry) {
        let user = registry.user("user").await;
        let cases = [
            (CreateRunnerRequest { maximum_timeout: Some(1), ..instance() }, "bad_request"),
            (CreateRunnerRequest { token_expires_at: Some("no time".into()), ..instance() }, "bad_request"),
            (instance(), "insufficient_permissions"),
        ];
        for (request, reason) in cases {
            assert_eq!(user.runners().create_runner(request).await.reason(), reason);
        }
    }

    async fn a_group_or_project_that_the_caller_does_not_see_does_not_exist(registry) {
        let group = registry.group("group", None).await;
        let project = registry.project("project", &group).await;
        let stranger = registry.user("stranger").await;
        for request in [of_group(&group), of_project(&project)] {
            let refusal = stranger.runners().create_runner(request).await.refusal();
            assert_eq!(refusal.message(), "400 Bad request - Missing/invalid scope");
        }
    }

    async fn the_creator_sees_what_was_created(registry) {
        let group = registry.group("group", None).await;
        let user = registry.user("user").await;
        registry.join_group(&user, &group, Role::Owner).await;
        let request = CreateRunnerRequest { maintenance_note: Some("note".into()), ..of_group(&group) };
        let created = user.runners().create_runner(request).await.answer();
        assert_eq!(details(&user, created.id).await.maintenance_note.as_deref(), Some("note"));
    }
}

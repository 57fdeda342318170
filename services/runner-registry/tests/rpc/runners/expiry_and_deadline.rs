//! The expiry and the rotation deadline of tokens, for every type of runner and with a limit at every level above it.
//! Each bound is tested at the instant itself and one second before and after.

use prost_types::FieldMask;
use proto::paddock::{
    directory::v1::{Group, Project, Settings, UpdateGroupRequest, UpdateProjectRequest},
    runner::v1::{
        CreateRunnerRequest, CreateRunnerResponse, ListAllRunnersRequest, UnregisterRunnerManagerRequest,
        UnregisterRunnerRequest,
    },
};

use super::{after, instance, of_group, of_project, seconds};
use crate::support::{Answer as _, Registry, both_databases};

const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

/// Where an interval can be set. The tree is top / middle / leaf, with a project in leaf.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    Instance(Kind),
    Top(Kind),
    Middle(Kind),
    Leaf(Kind),
    Project,
}

/// Which of the three intervals of an instance or a group.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Runner,
    Descendant,
    Project,
}

use Kind::{Descendant, Project as OfProject, Runner};

const LEVELS: [Level; 13] = [
    Level::Instance(Runner),
    Level::Instance(Descendant),
    Level::Instance(OfProject),
    Level::Top(Runner),
    Level::Top(Descendant),
    Level::Top(OfProject),
    Level::Middle(Runner),
    Level::Middle(Descendant),
    Level::Middle(OfProject),
    Level::Leaf(Runner),
    Level::Leaf(Descendant),
    Level::Leaf(OfProject),
    Level::Project,
];

struct Tree<'a> {
    registry: &'a Registry,
    groups: [Group; 3],
    project: Project,
}

impl<'a> Tree<'a> {
    async fn plant(registry: &'a Registry) -> Self {
        let top = registry.group("top", None).await;
        let middle = registry.group("middle", Some(&top)).await;
        let leaf = registry.group("leaf", Some(&middle)).await;
        let project = registry.project("project", &leaf).await;
        Self { registry, groups: [top, middle, leaf], project }
    }

    fn leaf(&self) -> &Group {
        &self.groups[2]
    }

    /// Sets one interval, or clears it.
    async fn set(&self, level: Level, interval: Option<i64>) {
        match level {
            Level::Instance(kind) => {
                let settings = Settings {
                    runner_token_expiration_interval: interval.filter(|_| kind == Runner),
                    group_runner_token_expiration_interval: interval.filter(|_| kind == Descendant),
                    project_runner_token_expiration_interval: interval.filter(|_| kind == OfProject),
                };
                self.registry.set_intervals(settings).await;
            }
            Level::Top(kind) => self.set_group(0, kind, interval).await,
            Level::Middle(kind) => self.set_group(1, kind, interval).await,
            Level::Leaf(kind) => self.set_group(2, kind, interval).await,
            Level::Project => {
                let request = UpdateProjectRequest {
                    id: self.project.id.to_string(),
                    runner_token_expiration_interval: interval,
                    update_mask: mask(&["runner_token_expiration_interval"]),
                    ..Default::default()
                };
                self.registry.root().projects().update_project(request).await.answer();
            }
        }
    }

    async fn set_group(&self, at: usize, kind: Kind, interval: Option<i64>) {
        let request = UpdateGroupRequest {
            id: self.groups[at].id.to_string(),
            runner_token_expiration_interval: interval.filter(|_| kind == Runner),
            subgroup_runner_token_expiration_interval: interval.filter(|_| kind == Descendant),
            project_runner_token_expiration_interval: interval.filter(|_| kind == OfProject),
            update_mask: mask(&[
                "runner_token_expiration_interval",
                "subgroup_runner_token_expiration_interval",
                "project_runner_token_expiration_interval",
            ]),
            ..Default::default()
        };
        self.registry.root().groups().update_group(request).await.answer();
    }

    /// Checks the expiry of a new token, and the bound of a stated one, with an interval at each level in turn.
    async fn check(&self, request: CreateRunnerRequest, binding: &[Level]) {
        for level in LEVELS {
            self.set(level, Some(HOUR)).await;
            let binds = binding.contains(&level);
            let created = self.registry.create(request.clone()).await;
            assert_eq!(seconds(created.token_expires_at), binds.then_some(HOUR), "{level:?}");
            let limit = if binds { HOUR } else { 15 * DAY };
            check_stated(self.registry, &request, limit).await;
            self.set(level, None).await;
        }
    }
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

fn stating(request: &CreateRunnerRequest, expires_at: i64) -> CreateRunnerRequest {
    CreateRunnerRequest { token_expires_at: Some(after(expires_at)), ..request.clone() }
}

/// A stated expiry is accepted up to the limit and refused one second later.
async fn check_stated(registry: &Registry, request: &CreateRunnerRequest, limit: i64) {
    for accepted in [limit - 1, limit] {
        let created = registry.create(stating(request, accepted)).await;
        assert_eq!(seconds(created.token_expires_at), Some(accepted));
    }
    let refused = registry.root().runners().create_runner(stating(request, limit + 1)).await.refusal();
    let text = format!("token_expires_at is too far in the future (maximum is {})", after(limit));
    assert_eq!((refused.spec().code, refused.message()), ("bad_request", format!("400 Bad request - {text}").as_str()));
}

/// A runner whose first token has an expiry, and perhaps a deadline.
async fn with_times(
    registry: &Registry,
    request: CreateRunnerRequest,
    expires_at: i64,
    deadline: Option<i64>,
) -> CreateRunnerResponse {
    let token_rotation_deadline = deadline.map(after);
    registry.create(CreateRunnerRequest { token_rotation_deadline, ..stating(&request, expires_at) }).await
}

both_databases! {
    async fn an_instance_runner_is_bound_by_its_setting_alone(registry) {
        let tree = Tree::plant(registry).await;
        tree.check(instance(), &[Level::Instance(Runner)]).await;
    }

    async fn a_group_runner_is_bound_by_its_group_the_instance_and_the_ancestors(registry) {
        let tree = Tree::plant(registry).await;
        let binding = [
            Level::Instance(Descendant),
            Level::Top(Descendant),
            Level::Middle(Descendant),
            Level::Leaf(Runner),
        ];
        tree.check(of_group(tree.leaf()), &binding).await;
    }

    async fn a_project_runner_is_bound_by_its_project_the_instance_and_all_groups_above(registry) {
        let tree = Tree::plant(registry).await;
        let binding = [
            Level::Instance(OfProject),
            Level::Top(OfProject),
            Level::Middle(OfProject),
            Level::Leaf(OfProject),
            Level::Project,
        ];
        tree.check(of_project(&tree.project), &binding).await;
    }

    async fn of_several_limits_the_smallest_binds(registry) {
        let tree = Tree::plant(registry).await;
        let levels = [Level::Instance(OfProject), Level::Top(OfProject), Level::Project];
        for (level, hours) in levels.into_iter().zip([3, 1, 2]) {
            tree.set(level, Some(hours * HOUR)).await;
        }
        let created = registry.create(of_project(&tree.project)).await;
        assert_eq!(seconds(created.token_expires_at), Some(HOUR));
        tree.set(Level::Top(OfProject), None).await;
        let created = registry.create(of_project(&tree.project)).await;
        assert_eq!(seconds(created.token_expires_at), Some(2 * HOUR));
    }

    async fn a_stated_expiry_is_at_least_five_minutes_ahead(registry) {
        let group = registry.group("group", None).await;
        let project = registry.project("project", &group).await;
        for request in [instance(), of_group(&group), of_project(&project)] {
            for refused in [-DAY, 0, 299] {
                let answer = registry.root().runners().create_runner(stating(&request, refused)).await;
                let text = "400 Bad request - token_expires_at must be at least 5 minutes in the future";
                assert_eq!(answer.refusal().message(), text, "{refused}");
            }
            for accepted in [300, 301] {
                let created = registry.create(stating(&request, accepted)).await;
                assert_eq!(seconds(created.token_expires_at), Some(accepted));
            }
        }
    }

    async fn a_deadline_lies_between_now_and_the_expiry(registry) {
        const PAST: Option<&str> = Some("token_rotation_deadline cannot be in the past");
        const AFTER: Option<&str> = Some("token_rotation_deadline must be less than or equal to token_expires_at");
        let cases = [
            (after(-1), PAST),
            (after(0), None),
            (after(1), None),
            (after(HOUR - 1), None),
            (after(HOUR), None),
            (after(HOUR + 1), AFTER),
            ("?".to_owned(), Some("token_rotation_deadline must be a valid time")),
        ];
        let group = registry.group("group", None).await;
        let project = registry.project("project", &group).await;
        for request in [instance(), of_group(&group), of_project(&project)] {
            for (deadline, expected) in &cases {
                let request = CreateRunnerRequest {
                    token_rotation_deadline: Some(deadline.clone()),
                    ..stating(&request, HOUR)
                };
                let answer = registry.root().runners().create_runner(request).await;
                match expected {
                    Some(text) => assert_eq!(answer.refusal().message(), format!("400 Bad request - {text}")),
                    None => assert!(answer.answer().token_rotation_deadline.is_some()),
                }
            }
        }
    }

    async fn the_first_broken_rule_is_named(registry) {
        let cases = [
            (None, "?", "token_expires_at is required when token_rotation_deadline is specified"),
            (Some("?"), "?", "token_expires_at must be a valid time"),
            (Some(""), "?", "token_expires_at must be a valid time"),
            (Some("2026-01-15T12:04:59Z"), "?", "token_expires_at must be at least 5 minutes in the future"),
            (Some("2026-01-16"), "?", "token_rotation_deadline must be a valid time"),
            (Some("2026-01-16"), "2026-01-15", "token_rotation_deadline cannot be in the past"),
        ];
        for (expires_at, deadline, text) in cases {
            let request = CreateRunnerRequest {
                token_expires_at: expires_at.map(str::to_owned),
                token_rotation_deadline: Some(deadline.to_owned()),
                ..instance()
            };
            let refusal = registry.root().runners().create_runner(request).await.refusal();
            assert_eq!(refusal.message(), format!("400 Bad request - {text}"));
        }
    }

    async fn a_refused_creation_leaves_nothing(registry) {
        registry.root().runners().create_runner(stating(&instance(), 1)).await.refusal();
        let all = registry.root().runners().list_all_runners(ListAllRunnersRequest::default()).await.answer();
        assert_eq!(all.page.unwrap().total, Some(0));
    }

    async fn an_expired_token_neither_authenticates_nor_rotates(registry) {
        let group = registry.group("group", None).await;
        let project = registry.project("project", &group).await;
        for request in [instance(), of_group(&group), of_project(&project)] {
            registry.set_clock(0);
            let created = with_times(registry, request, HOUR, None).await;
            registry.set_clock(HOUR - 1);
            assert_eq!(seconds(registry.verify(&created.token).await.answer().token_expires_at), Some(HOUR));
            for now in [HOUR, HOUR + 1] {
                registry.set_clock(now);
                let client = registry.runner().runner_tokens();
                let token = created.token.clone();
                let unregister = UnregisterRunnerRequest { token: token.clone() };
                let manager = UnregisterRunnerManagerRequest { token, system_id: "s_1".into() };
                let reasons = [
                    registry.verify(&created.token).await.reason(),
                    registry.request_job(&created.token).await.reason(),
                    registry.rotate(&created.token).await.reason(),
                    client.clone().unregister_runner(unregister).await.reason(),
                    client.clone().unregister_runner_manager(manager).await.reason(),
                ];
                assert_eq!(reasons, ["runner_token_expired"; 5]);
            }
        }
    }

    async fn from_the_deadline_on_a_token_authenticates_and_does_not_rotate(registry) {
        let group = registry.group("group", None).await;
        let project = registry.project("project", &group).await;
        for request in [instance(), of_group(&group), of_project(&project)] {
            registry.set_clock(0);
            let early = with_times(registry, request.clone(), 2 * HOUR, Some(HOUR)).await;
            let late = with_times(registry, request, 2 * HOUR, Some(HOUR)).await;
            registry.set_clock(HOUR - 1);
            registry.rotate(&early.token).await.answer();
            for now in [HOUR, HOUR + 1, 2 * HOUR - 1] {
                registry.set_clock(now);
                let refusal = registry.rotate(&late.token).await.refusal();
                assert_eq!(refusal.spec().code, "rotation_deadline_passed");
                assert_eq!(refusal.message(), "Token rotation deadline has passed");
                registry.verify(&late.token).await.answer();
            }
            let shown = registry.details(late.id).await;
            assert_eq!(seconds(shown.token_rotation_deadline), Some(HOUR));
        }
    }

    async fn a_deadline_at_the_expiry_or_now_means_no_rotation(registry) {
        let at_once = with_times(registry, instance(), HOUR, Some(0)).await;
        assert_eq!(registry.rotate(&at_once.token).await.reason(), "rotation_deadline_passed");
        let never = with_times(registry, instance(), HOUR, Some(HOUR)).await;
        registry.set_clock(HOUR);
        assert_eq!(registry.rotate(&never.token).await.reason(), "runner_token_expired");
    }

    async fn the_stated_times_hold_for_the_first_token_only(registry) {
        let created = with_times(registry, instance(), HOUR, Some(HOUR / 2)).await;
        registry.set_intervals(Settings { runner_token_expiration_interval: Some(DAY), ..Default::default() }).await;
        registry.set_clock(60);
        let rotated = registry.rotate(&created.token).await.answer();
        assert_eq!(seconds(rotated.token_expires_at), Some(60 + DAY));
        registry.verify(&rotated.token).await.answer();
        let shown = registry.details(created.id).await;
        assert_eq!((seconds(shown.token_expires_at), shown.token_rotation_deadline), (Some(60 + DAY), None));
        registry.set_clock(HOUR);
        registry.rotate(&rotated.token).await.answer();
    }

    async fn new_settings_concern_new_tokens_only(registry) {
        let hour = Settings { runner_token_expiration_interval: Some(HOUR), ..Default::default() };
        registry.set_intervals(hour).await;
        let created = registry.create(instance()).await;
        registry.set_intervals(Settings::default()).await;
        assert_eq!(seconds(registry.verify(&created.token).await.answer().token_expires_at), Some(HOUR));
        let rotated = registry.rotate(&created.token).await.answer();
        assert_eq!(rotated.token_expires_at, None);
    }

    async fn a_rotated_token_is_bound_by_every_project_of_its_runner(registry) {
        let tree = Tree::plant(registry).await;
        let other = registry.project("other", &tree.groups[0]).await;
        let created = registry.create(of_project(&tree.project)).await;
        let assign = proto::paddock::runner::v1::AssignRunnerRequest { id: other.id.to_string(), runner_id: created.id };
        tree.set(Level::Project, Some(2 * HOUR)).await;
        registry.root().runners().assign_runner(assign).await.answer();
        let request = UpdateProjectRequest {
            id: other.id.to_string(),
            runner_token_expiration_interval: Some(HOUR),
            ..Default::default()
        };
        registry.root().projects().update_project(request).await.answer();
        let rotated = registry.rotate(&created.token).await.answer();
        assert_eq!(seconds(rotated.token_expires_at), Some(HOUR));
    }
}

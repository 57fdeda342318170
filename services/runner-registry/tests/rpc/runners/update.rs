//! The update of a runner: which fields a request changes, and that the runner stays valid.

use prost_types::FieldMask;
use proto::paddock::runner::v1::{CreateRunnerRequest, RunnerAccessLevel, RunnerDetails, UpdateRunnerRequest};

use super::instance;
use crate::support::{Answer as _, Registry, both_databases};

async fn update(registry: &Registry, request: UpdateRunnerRequest) -> RunnerDetails {
    registry.root().runners().update_runner(request).await.answer().runner.unwrap()
}

fn masked(request: UpdateRunnerRequest, paths: &[&str]) -> UpdateRunnerRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    UpdateRunnerRequest { update_mask: Some(FieldMask { paths }), ..request }
}

async fn full_runner(registry: &Registry) -> i64 {
    let request = CreateRunnerRequest {
        description: Some("builds".into()),
        maintenance_note: Some("note".into()),
        paused: Some(true),
        locked: Some(true),
        access_level: Some(RunnerAccessLevel::RefProtected.into()),
        run_untagged: Some(false),
        tag_list: vec!["a".into(), "b".into()],
        maximum_timeout: Some(600),
        ..instance()
    };
    registry.create(request).await.id
}

both_databases! {
    async fn without_a_mask_the_fields_that_are_set_change(registry) {
        let id = full_runner(registry).await;
        let before = registry.details(id).await;
        let request = UpdateRunnerRequest { id, description: Some("tests".into()), paused: Some(false), ..Default::default() };
        let after = update(registry, request).await;
        let expected = RunnerDetails { description: Some("tests".into()), paused: false, active: true, ..before };
        assert_eq!(after, expected);
        assert_eq!(registry.details(id).await, expected);
    }

    async fn a_listed_field_that_is_unset_is_cleared(registry) {
        let id = full_runner(registry).await;
        let unset = UpdateRunnerRequest { id, run_untagged: Some(true), ..Default::default() };
        let paths = [
            "description", "maintenance_note", "paused", "locked", "access_level", "run_untagged", "tag_list",
            "maximum_timeout", "id", "no_such_field",
        ];
        let after = update(registry, masked(unset, &paths)).await;
        let fresh = registry.details(registry.create(instance()).await.id).await;
        assert_eq!(after, RunnerDetails { id, ..fresh });
    }

    async fn a_mask_leaves_out_what_it_does_not_list(registry) {
        let id = full_runner(registry).await;
        let before = registry.details(id).await;
        let request = UpdateRunnerRequest {
            id,
            description: Some("ignored".into()),
            maximum_timeout: Some(700),
            ..Default::default()
        };
        let after = update(registry, masked(request, &["maximum_timeout"])).await;
        assert_eq!(after, RunnerDetails { maximum_timeout: Some(700), ..before });
    }

    async fn every_field_can_be_changed(registry) {
        let id = registry.create(instance()).await.id;
        let request = UpdateRunnerRequest {
            id,
            description: Some("d".into()),
            active: Some(false),
            tag_list: vec!["x,y".into()],
            run_untagged: Some(false),
            locked: Some(true),
            access_level: Some(RunnerAccessLevel::RefProtected.into()),
            maximum_timeout: Some(601),
            maintenance_note: Some("n".into()),
            ..Default::default()
        };
        let after = update(registry, request).await;
        assert_eq!((after.description.as_deref(), after.maintenance_note.as_deref()), (Some("d"), Some("n")));
        assert!(after.paused && !after.active && after.locked && !after.run_untagged);
        assert_eq!(after.tag_list, ["x", "y"]);
        assert_eq!((after.access_level(), after.maximum_timeout), (RunnerAccessLevel::RefProtected, Some(601)));
    }

    async fn a_request_that_says_nothing_or_too_much_is_refused(registry) {
        let id = registry.create(instance()).await.id;
        let nothing = "description, active, paused, tag_list, run_untagged, locked, access_level, maximum_timeout, \
                       maintenance_note are missing, at least one parameter must be provided";
        let base = UpdateRunnerRequest { id, ..Default::default() };
        let cases = [
            (base.clone(), "parameter_missing", nothing),
            (masked(base.clone(), &[]), "parameter_missing", nothing),
            (masked(base.clone(), &["id", "unknown"]), "parameter_missing", nothing),
            (
                UpdateRunnerRequest { active: Some(true), paused: Some(false), ..base.clone() },
                "parameter_invalid",
                "active, paused are mutually exclusive",
            ),
            (
                UpdateRunnerRequest { access_level: Some(9), ..base.clone() },
                "parameter_invalid",
                "access_level does not have a valid value",
            ),
        ];
        for (request, reason, message) in cases {
            let refusal = registry.root().runners().update_runner(request).await.refusal();
            assert_eq!((refusal.spec().code, refusal.message()), (reason, message));
        }
    }

    async fn the_runner_must_stay_valid(registry) {
        let id = full_runner(registry).await;
        let base = UpdateRunnerRequest { id, ..Default::default() };
        let untagged = "tags_list: can not be empty when runner is not allowed to pick untagged jobs";
        let cases = [
            (UpdateRunnerRequest { maximum_timeout: Some(599), ..base.clone() }, "maximum_timeout: needs to be at least 10 minutes"),
            (masked(base.clone(), &["tag_list"]), untagged),
            (UpdateRunnerRequest { tag_list: vec![" ".into()], ..base.clone() }, untagged),
            (
                UpdateRunnerRequest { description: Some("x".repeat(1025)), ..base.clone() },
                "description: is too long (maximum is 1024 characters)",
            ),
            (UpdateRunnerRequest { maintenance_note: Some("\0".into()), ..base.clone() }, "maintenance_note: is invalid"),
        ];
        let before = registry.details(id).await;
        for (request, text) in cases {
            assert_eq!(registry.root().runners().update_runner(request).await.invalid(), [text]);
        }
        assert_eq!(registry.details(id).await, before);
        let gone = UpdateRunnerRequest { id: 9_999, paused: Some(true), ..Default::default() };
        assert_eq!(registry.root().runners().update_runner(gone).await.reason(), "runner_not_found");
    }
}

use proto::paddock::directory::v1::{
    GetMetadataRequest, GetSettingsRequest, GetVersionRequest, Settings, UpdateSettingsRequest,
};

use crate::support::{Answer as _, both_databases, mask};

fn settings(instance: Option<i64>, group: Option<i64>, project: Option<i64>) -> Settings {
    Settings {
        runner_token_expiration_interval: instance,
        group_runner_token_expiration_interval: group,
        project_runner_token_expiration_interval: project,
    }
}

fn update(settings: Settings) -> UpdateSettingsRequest {
    UpdateSettingsRequest {
        runner_token_expiration_interval: settings.runner_token_expiration_interval,
        group_runner_token_expiration_interval: settings.group_runner_token_expiration_interval,
        project_runner_token_expiration_interval: settings.project_runner_token_expiration_interval,
        update_mask: None,
    }
}

both_databases! {
    async fn the_version_is_that_of_the_spoken_api(registry) {
        let alice = registry.user("alice").await;
        let version = alice.instance().get_version(GetVersionRequest {}).await.answer();
        assert_eq!(version.version, "18.10.0");
        assert_eq!(version.revision, format!("paddock-{}", env!("CARGO_PKG_VERSION")));

        let metadata = alice.instance().get_metadata(GetMetadataRequest {}).await.answer();
        assert_eq!((metadata.version, metadata.revision), (version.version, version.revision));
        assert!(!metadata.enterprise);
        assert!(!metadata.kas.unwrap().enabled);
    }

    async fn settings_begin_without_limits_and_change_as_the_mask_says(registry) {
        let mut client = registry.root().instance();
        let none = client.get_settings(GetSettingsRequest {}).await.answer().settings;
        assert_eq!(none, Some(settings(None, None, None)));

        // Without a mask, the fields that are set change.
        let changed = client.update_settings(update(settings(Some(1), None, Some(3_155_760_000)))).await.answer();
        assert_eq!(changed.settings, Some(settings(Some(1), None, Some(3_155_760_000))));
        let unchanged = client.update_settings(update(settings(None, None, None))).await.answer();
        assert_eq!(unchanged.settings, changed.settings);

        // With a mask, the fields that it lists change: they are set or cleared.
        let masked = UpdateSettingsRequest {
            update_mask: mask(&["group_runner_token_expiration_interval", "project_runner_token_expiration_interval"]),
            ..update(settings(Some(7), Some(8), None))
        };
        let changed = client.update_settings(masked).await.answer();
        assert_eq!(changed.settings, Some(settings(Some(1), Some(8), None)));
        let read = client.get_settings(GetSettingsRequest {}).await.answer();
        assert_eq!(read.settings, changed.settings);
    }

    async fn every_interval_out_of_bounds_is_named(registry) {
        let mut client = registry.root().instance();
        let wrong = client.update_settings(update(settings(Some(0), Some(-1), Some(3_155_760_001)))).await.invalid();
        assert_eq!(
            wrong,
            [
                "group_runner_token_expiration_interval: must be greater than or equal to 1",
                "project_runner_token_expiration_interval: must be less than or equal to 3155760000",
                "runner_token_expiration_interval: must be greater than or equal to 1",
            ]
        );
        let read = client.get_settings(GetSettingsRequest {}).await.answer();
        assert_eq!(read.settings, Some(settings(None, None, None)));
    }

    async fn settings_are_for_administrators(registry) {
        let mut client = registry.user("alice").await.instance();
        assert_eq!(client.get_settings(GetSettingsRequest {}).await.reason(), "admin_required");
        assert_eq!(client.update_settings(update(settings(Some(5), None, None))).await.reason(), "admin_required");
    }
}

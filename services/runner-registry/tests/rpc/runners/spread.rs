//! Computed expiries are spread, and stated ones are not.

use proto::paddock::{
    directory::v1::Settings,
    runner::v1::{CreateRunnerRequest, ResetRunnerAuthenticationTokenRequest},
};

use super::{after, instance, seconds};
use crate::support::{Answer as _, both_databases};

/// The life that the settings give, in seconds.
const LIFE: i64 = 1_000_000;

/// The lives that tokens may get.
const LIVES: std::ops::RangeInclusive<i64> = LIFE / 2..=LIFE;

both_databases! {
    with |config| config.rotation.spread_percent = 50;

    async fn computed_expiries_are_earlier_by_up_to_the_part(registry) {
        let settings = Settings { runner_token_expiration_interval: Some(LIFE), ..Default::default() };
        registry.set_intervals(settings).await;
        let mut lives = Vec::new();
        for _ in 0..8 {
            let created = registry.create(instance()).await;
            lives.push(seconds(created.token_expires_at).unwrap());
            let rotated = registry.rotate(&created.token).await.answer();
            lives.push(seconds(rotated.token_expires_at).unwrap());
            let again = registry.rotate(&created.token).await.answer();
            assert_eq!(again.token_expires_at, rotated.token_expires_at);
            let reset = ResetRunnerAuthenticationTokenRequest { id: created.id };
            let reset = registry.root().runners().reset_runner_authentication_token(reset).await.answer();
            lives.push(seconds(reset.token_expires_at).unwrap());
        }
        assert!(lives.iter().all(|life| LIVES.contains(life)), "{lives:?}");
        lives.sort_unstable();
        lives.dedup();
        assert!(lives.len() > 1, "{lives:?}");
    }

    async fn a_stated_expiry_may_use_the_whole_life(registry) {
        let settings = Settings { runner_token_expiration_interval: Some(LIFE), ..Default::default() };
        registry.set_intervals(settings).await;
        for _ in 0..8 {
            let request = CreateRunnerRequest { token_expires_at: Some(after(LIFE)), ..instance() };
            assert_eq!(seconds(registry.create(request).await.token_expires_at), Some(LIFE));
        }
    }

    async fn a_token_without_an_expiry_stays_so(registry) {
        let created = registry.create(instance()).await;
        assert_eq!(created.token_expires_at, None);
        assert_eq!(registry.rotate(&created.token).await.answer().token_expires_at, None);
    }
}

//! The refusals that callers get when the database fails.

use chassis::status::Rejection;
use proto::paddock::{contract::v1::Reason, directory::v1::GetSettingsRequest};

use crate::support::Registry;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_is_a_fault_that_tells_nothing_of_itself() {
    let Some(registry) = Registry::on_postgres(|_| {}).await else { return };
    // The service has started when it answers.
    registry.root().instance().get_settings(GetSettingsRequest {}).await.unwrap();
    registry.drop_database().await;
    let status = registry.root().instance().get_settings(GetSettingsRequest {}).await.unwrap_err();
    match Rejection::from(status) {
        Rejection::Fault(fault) => {
            assert_eq!(fault.reason(), Reason::Unavailable);
            assert_eq!(fault.detail(), "503 Service Unavailable");
        }
        Rejection::Refusal(refusal) => panic!("{refusal:?}"),
    }
    registry.finish().await;
}

//! Who may read the log and act on it, and invalid parameters.

use proto::paddock::{
    directory::v1::Visibility,
    job_token::v1::{
        AutopopulateAllowlistRequest, DryRunAllowlistRequest, ListAccessEventsRequest, ListAuthenticationLogRequest,
        StreamAccessEventsJsonLinesRequest, StreamAuthenticationLogCsvRequest, StreamAuthenticationLogJsonLinesRequest,
    },
};

use super::{Access, record};
use crate::support::{ALICE, Actor, Answer as _, Service, both_databases};

/// The reasons for which the calls are refused; none: the call succeeded.
async fn outcomes(actor: &Actor, id: &str) -> [Option<&'static str>; 7] {
    let mut client = actor.log();
    let id = id.to_owned();
    macro_rules! outcome {
        ($method:ident, $request:ident) => {{
            let answer = client.$method($request { id: id.clone(), ..Default::default() }).await;
            if answer.is_ok() { None } else { Some(answer.reason()) }
        }};
    }
    [
        outcome!(list_authentication_log, ListAuthenticationLogRequest),
        outcome!(list_access_events, ListAccessEventsRequest),
        outcome!(stream_authentication_log_csv, StreamAuthenticationLogCsvRequest),
        outcome!(stream_authentication_log_json_lines, StreamAuthenticationLogJsonLinesRequest),
        outcome!(stream_access_events_json_lines, StreamAccessEventsJsonLinesRequest),
        outcome!(dry_run_allowlist, DryRunAllowlistRequest),
        outcome!(autopopulate_allowlist, AutopopulateAllowlistRequest),
    ]
}

async fn refused(service: &Service, request: ListAccessEventsRequest) -> (&'static str, String) {
    let request = ListAccessEventsRequest { id: "20".to_owned(), ..request };
    let refusal = service.alice().log().list_access_events(request).await.refusal();
    (refusal.spec().code, refusal.message().to_owned())
}

both_databases! {
    async fn the_log_is_for_those_who_administer_the_project(service) {
        service.registry.project(20, "tools/charts", None, Visibility::Private);
        record(service, &[Access::default()]).await;
        let alice = service.alice();
        assert_eq!(outcomes(&alice, "20").await, [Some("project_not_found"); 7]);
        for role in [10, 20, 30] {
            service.registry.role(ALICE, 20, Some(role));
            assert_eq!(outcomes(&alice, "20").await, [Some("access_denied"); 7], "{role}");
        }
        for role in [40, 50] {
            service.registry.role(ALICE, 20, Some(role));
            assert_eq!(outcomes(&alice, "tools/charts").await, [None; 7], "{role}");
        }
        assert_eq!(outcomes(&service.root(), "20").await, [None; 7]);
        assert_eq!(outcomes(&service.root(), "21").await, [Some("project_not_found"); 7]);
        service.registry.role(ALICE, 20, None);
        service.registry.project(20, "tools/charts", None, Visibility::Public);
        assert_eq!(outcomes(&alice, "20").await, [Some("access_denied"); 7]);
    }

    async fn a_registry_that_does_not_answer_is_a_fault(service) {
        service.project(20, "tools/charts", None);
        service.registry.set_down(true);
        let request = ListAuthenticationLogRequest { id: "20".to_owned(), ..Default::default() };
        let status = service.alice().log().list_authentication_log(request).await.unwrap_err();
        assert_eq!(chassis::status::Rejection::from(status).spec().code, "unavailable");
        service.registry.set_down(false);
    }

    async fn invalid_parameters_are_refused(service) {
        service.project(20, "tools/charts", None);
        let none = ListAccessEventsRequest::default;
        for (request, message) in [
            (ListAccessEventsRequest { direction: Some(0), ..none() }, "direction does not have a valid value"),
            (ListAccessEventsRequest { direction: Some(9), ..none() }, "direction does not have a valid value"),
            (ListAccessEventsRequest { policy: Some(0), ..none() }, "policy does not have a valid value"),
            (ListAccessEventsRequest { policy: Some(999), ..none() }, "policy does not have a valid value"),
            (ListAccessEventsRequest { since: Some("yesterday".to_owned()), ..none() }, "since is invalid"),
            (ListAccessEventsRequest { until: Some(String::new()), ..none() }, "until is invalid"),
            (ListAccessEventsRequest { per_page: Some(0), ..none() }, "per_page does not have a valid value"),
            (ListAccessEventsRequest { per_page: Some(-1), ..none() }, "per_page does not have a valid value"),
        ] {
            assert_eq!(refused(service, request).await, ("parameter_invalid", message.to_owned()));
        }
        let mut client = service.alice().log();
        for days in [Some(0), Some(-1), Some(367), Some(i32::MAX)] {
            let id = "20".to_owned();
            let refusals = [
                client.dry_run_allowlist(DryRunAllowlistRequest { id: id.clone(), days, ..Default::default() }).await.refusal(),
                client.autopopulate_allowlist(AutopopulateAllowlistRequest { id, days, ..Default::default() }).await.refusal(),
            ];
            for refusal in refusals {
                let refusal = (refusal.spec().code, refusal.message());
                assert_eq!(refusal, ("parameter_invalid", "days does not have a valid value"));
            }
        }
    }
}

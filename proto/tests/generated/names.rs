//! Names are valid on every hop: proxies drop underscores, HTTP/2 refuses upper case, gRPC reserves `grpc-` and `-bin`.

use std::collections::HashSet;

use proto::{
    contract::{METHODS, Place, Success},
    paddock::contract::v1::{CredentialKind, InternalHeader, Reason, Secret},
};

fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with("grpc-")
        && !name.ends_with("-bin")
}

#[test]
fn internal_headers_are_safe_on_every_hop_and_distinct() {
    let keys: Vec<_> = InternalHeader::ALL.iter().filter_map(|header| header.spec()).map(|spec| spec.key).collect();
    assert!(keys.iter().all(|key| is_safe(key)), "{keys:?}");
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "a key occurs twice");
}

#[test]
fn secrets_have_distinct_files_and_a_reader() {
    let specs: Vec<_> = Secret::ALL.iter().filter_map(|secret| secret.spec()).collect();
    assert_eq!(specs.iter().map(|spec| spec.file).collect::<HashSet<_>>().len(), specs.len());
    assert_eq!(specs.iter().map(|spec| (spec.name, spec.key)).collect::<HashSet<_>>().len(), specs.len());
    for spec in specs {
        assert!(is_safe(spec.name) && is_safe(spec.key), "{spec:?}");
        assert!(!spec.read_by.is_empty() && spec.min_bytes > 0, "{spec:?}");
    }
}

#[test]
fn every_reason_is_complete_and_only_faults_are_logged_as_errors() {
    for reason in Reason::ALL {
        let spec = reason.spec().expect("ALL lists only reasons with a specification");
        assert!((400..=599).contains(&spec.http_status), "{spec:?}");
        assert!((1..=16).contains(&spec.grpc_code), "{spec:?}");
        assert!(!spec.message.is_empty() && spec.remedy.ends_with('.'), "{spec:?}");
        let fault = spec.http_status >= 500;
        let loud = spec.log_level == proto::paddock::contract::v1::LogLevel::Error;
        assert_eq!(fault, loud, "a fault is an ERROR line and a refusal never is: {spec:?}");
    }
}

#[test]
fn every_method_is_complete() {
    for method in METHODS {
        assert!(!method.accepts.is_empty(), "{}: no credential may call it", method.path);
        let accepts_users = method.accepts.contains(&CredentialKind::UserToken);
        assert_eq!(accepts_users, !method.scopes.is_empty(), "{}: users and scopes go together", method.path);
        assert!(accepts_users || !method.admin, "{}: only a user can be an administrator", method.path);
        if method.rest.is_some() {
            let has_status = matches!(method.success, Success::Status(200 | 201 | 204) | Success::Field(_));
            assert!(has_status, "{}: no status of success", method.path);
        }
    }
    assert!(METHODS.windows(2).all(|pair| pair[0].path < pair[1].path), "sorted for the binary search");
}

#[test]
fn carriers_are_lower_case_and_prefixes_distinct() {
    let mut prefixes = HashSet::new();
    for kind in CredentialKind::ALL {
        let spec = kind.spec().expect("ALL lists only kinds with a specification");
        assert!(prefixes.insert(spec.prefix), "{kind:?}");
        for carrier in spec.carriers {
            match carrier.place {
                Place::Header(name) => assert!(is_safe(name), "{name}"),
                Place::Parameter(name) | Place::AuthorizationScheme(name) | Place::BasicUsername(name) => {
                    assert_eq!(name, name.to_lowercase());
                }
            }
        }
    }
}

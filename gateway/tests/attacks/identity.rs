//! Nobody but the gateway says to an upstream who calls: ten thousand sets of headers that try.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use proto::paddock::contract::v1::{CredentialKind, InternalHeader};
use proto::paddock::job_token::v1::{AuthorizeRequest, AuthorizeResponse};
use tracing::Level;

use crate::connection::KeptAlive;
use crate::generated;
use crate::support::log;
use crate::support::protected::{Setup, allowed, identity, identity_header, job_header};
use crate::support::upstream::{Seen, Upstream, answer};

/// How many sets of claims are sent in the long form.
const ALL_SETS: usize = 10_000;

/// In every value that a client claims; never in one of ours.
const CLAIM: &str = "mallory";

/// Names by which upstreams know callers.
const KNOWN: [&str; 45] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "remote-user",
    "x-remote-user",
    "x-auth-request-user",
    "x-authenticated-userid",
    "x-user-id",
    "x-gitlab-user",
    "gitlab-workhorse-api-request",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "sudo",
    "via",
    "client-cert",
    "client-cert-chain",
    "x-arr-clientcert",
    "x-consumer-username",
    "x-credential-identifier",
    "x-pomerium-claim-email",
    "x-vouch-user",
    "tailscale-user-login",
    "x-proxy-remote-user",
    "oidc-claim-sub",
    "x-scope-orgid",
    "x-tenant-id",
    "wl-proxy-client-ip",
    "proxy-client-ip",
    "x-forward-for",
    "x-sso-user",
    "x-trusted-user",
    "proxy",
    "x-sendfile-type",
    "x-accel-redirect",
    "x-script-name",
    "front-end-https",
    "x-url-scheme",
];

/// Names under which a credential may come along; with one, none of them arrives.
const CARRYING: [&str; 6] = ["cookie", "referer", "x-nuget-apikey", "x-api-key", "x-anything", "x-build-token"];

/// Names that carry no claim; they arrive unless the Connection header names them.
const HARMLESS: [&str; 3] = ["x-checksum", "x-build", "accept-language"];

/// Where a client puts its claims.
#[derive(Clone, Debug)]
struct Claims {
    headers: Vec<(String, String)>,
    /// What its Connection headers name.
    listed: Vec<String>,
    /// Trailers of its body; they claim under the same names.
    has_trailers: bool,
}

fn known() -> Vec<String> {
    let ours = InternalHeader::ALL.iter().filter_map(|header| header.spec()).map(|spec| spec.key);
    let own = ["paddock-user", "x-paddock-identity"];
    KNOWN.into_iter().chain(ours).chain(own).map(str::to_owned).collect()
}

/// The name in another spelling: other case, and one hyphen or all as underscore or dot.
fn spelling() -> impl Strategy<Value = String> {
    let name = prop_oneof![4 => proptest::sample::select(known()), 1 => Just(identity_header().key.to_owned())];
    (name, any::<u64>(), 0..6_u8).prop_map(|(name, bits, hyphens)| {
        let spelt = match hyphens {
            0 => name.replace('-', "_"),
            1 => name.replacen('-', "_", 1),
            2 => name.replace('-', "."),
            _ => name,
        };
        let cased = spelt
            .chars()
            .enumerate()
            .map(|(at, letter)| if bits >> (at % 64) & 1 == 1 { letter.to_ascii_uppercase() } else { letter });
        cased.collect()
    })
}

fn claims() -> impl Strategy<Value = Claims> {
    let value = prop_oneof![
        Just(CLAIM.to_owned()),
        Just(format!("{CLAIM}, 10.0.0.1")),
        Just(format!("for={CLAIM};proto=https")),
        Just(identity(CLAIM)),
    ];
    let headers = proptest::collection::vec((spelling(), value), 0..6);
    let harmless = proptest::sample::subsequence(HARMLESS.to_vec(), 0..=3);
    let kinds = CredentialKind::ALL.iter().filter_map(|kind| kind.spec()).map(|spec| spec.prefix).collect::<Vec<_>>();
    let carried = (proptest::sample::select(CARRYING.to_vec()), proptest::sample::select(kinds));
    let carried = carried.prop_map(|(name, prefix)| (name.to_owned(), format!("a={prefix}{CLAIM}")));
    let carried = proptest::collection::vec(carried, 0..3);
    let listed = proptest::collection::vec(prop_oneof![spelling(), Just(HARMLESS[0].to_owned())], 0..3);
    (headers, carried, harmless, listed, proptest::bool::weighted(0.1)).prop_map(
        |(mut headers, carried, harmless, listed, has_trailers)| {
            // Twice, and the spelling with hyphens once more: what counts must not depend on the order.
            if let Some(first) = headers.first().cloned() {
                headers.push(first);
            }
            headers.extend(carried);
            headers.extend(harmless.into_iter().map(|name| (name.to_owned(), "plain".to_owned())));
            Claims { headers, listed, has_trailers }
        },
    )
}

/// One that gives the same sets in every run.
fn runner() -> TestRunner {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(ProptestConfig::default(), rng)
}

/// Where the routes to an upstream of HTTP/1.1, and to one of HTTP/2, begin.
const PLACES: [&str; 2] = ["one", "two"];

/// Connections of clients.
const LANES: usize = 4;

fn path(number: usize) -> String {
    format!("/{}/42/v{number}", PLACES[number / LANES % PLACES.len()])
}

/// Sends sets byte by byte on one connection of HTTP/1.1; each names its number in the path.
async fn send_http1(address: SocketAddr, sets: Arc<Vec<Claims>>, numbers: Vec<usize>) {
    let mut connection = KeptAlive::connect(address).await;
    let (credential, token) = job_header();
    for number in numbers {
        let claims = &sets[number];
        let mut text = format!("PUT {} HTTP/1.1\r\nHost: {CLAIM}.example\r\n{credential}: {token}\r\n", path(number));
        for (name, value) in &claims.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !claims.listed.is_empty() {
            text.push_str(&format!("Connection: {}\r\n", claims.listed.join(" , ")));
        }
        if claims.has_trailers {
            let names: Vec<_> = claims.headers.iter().map(|(name, _)| name.as_str()).collect();
            text.push_str(&format!(
                "Trailer: {}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
                names.join(",")
            ));
            for (name, value) in &claims.headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            text.push_str("\r\n");
        } else {
            text.push_str("Content-Length: 0\r\n\r\n");
        }
        assert_eq!(connection.exchange(text.as_bytes()).await, Some((200, true)), "{number}: {claims:?}");
    }
}

/// Sends sets on one connection of HTTP/2.
async fn send_http2(address: SocketAddr, sets: Arc<Vec<Claims>>, numbers: Vec<usize>) {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let (credential, token) = job_header();
    let requests = numbers.into_iter().map(|number| {
        let claims = &sets[number];
        let mut headers = HeaderMap::new();
        headers.insert(credential, token.parse().unwrap());
        for (name, value) in &claims.headers {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let trailers = claims.has_trailers.then(|| Ok::<_, std::io::Error>(Frame::trailers(headers.clone())));
        let frames = [Ok(Frame::data(Bytes::from("x")))].into_iter().chain(trailers);
        let body = StreamBody::new(futures::stream::iter(frames.collect::<Vec<_>>())).boxed_unsync();
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::PUT;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = format!("http://{address}{}", path(number)).parse().unwrap();
        *request.headers_mut() = headers;
        let sending = client.request(request);
        async move {
            let answer = sending.await.unwrap();
            assert_eq!(answer.status(), 200, "{number}");
            answer.into_body().collect().await.unwrap();
        }
    });
    futures::stream::StreamExt::collect::<Vec<()>>(futures::stream::StreamExt::buffer_unordered(
        futures::stream::iter(requests.collect::<Vec<_>>()),
        32,
    ))
    .await;
}

/// What must hold of a request as the upstream saw it.
fn check(seen: &Seen, number: usize, claims: &Claims, capture: &str, is_http1: bool) {
    assert!(!seen.has_trailers, "{number}: {claims:?}");
    for (name, value) in &seen.headers {
        let value = value.to_str().unwrap();
        let is_host = name == "x-forwarded-host" && value == format!("{CLAIM}.example");
        assert!(!value.contains(CLAIM) || is_host, "{number}: {name}: {value}: {claims:?}");
        assert!(name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{number}: {name}");
    }
    let only = |name: &str| {
        let mut values = seen.headers.get_all(name).iter();
        let first = values.next().unwrap_or_else(|| panic!("{number}: no {name}: {seen:?}"));
        assert!(values.next().is_none(), "{number}: {name} twice");
        first.to_str().unwrap().to_owned()
    };
    assert_eq!(only(identity_header().key), identity(capture), "{number}: {claims:?}");
    assert_eq!((only("x-forwarded-for").as_str(), only("x-forwarded-proto").as_str()), ("127.0.0.1", "http"));
    for name in HARMLESS {
        let is_sent = claims.headers.iter().any(|(sent, _)| sent == name);
        let is_listed = is_http1 && claims.listed.iter().any(|listed| listed == name);
        assert_eq!(seen.headers.contains_key(name), is_sent && !is_listed, "{number}: {name}: {claims:?}");
    }
    assert!(!["connection", "trailer", "te", "keep-alive"].iter().any(|name| seen.headers.contains_key(*name)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_claim_of_a_client_reaches_an_upstream_and_ours_always_does_once() {
    log::install_at(Level::ERROR);
    let route = "[[routes]]\nmethod = \"PUT\"\nprojects = [\"id\"]\npolicies = []\npath = ";
    let h2 = Upstream::start().await;
    let table = format!(
        "[upstreams.store]\nurl = \"{}\"\nprotocol = \"h2\"\n{route}\"/{}/{{id}}/{{tag}}\"\n\
         {route}\"/{}/{{id}}/{{tag}}\"\nupstream = \"store\"\n",
        h2.url(),
        PLACES[0],
        PLACES[1]
    );
    let setup = Setup::with_table(&table).await;
    // Without a capture there is one call less for each request.
    let own = |asked| async { Ok(AuthorizeResponse { capture: None, ..allowed(asked) }) };
    setup.world.fake.on("authorize", own);
    let mut runner = runner();
    let count = generated(ALL_SETS);
    let sets: Vec<_> = (0..count).map(|_| claims().new_tree(&mut runner).unwrap().current()).collect();
    let sets = Arc::new(sets);
    for upstream in [&setup.upstream, &h2] {
        upstream.on(|_| async { answer(200, &[], "") });
    }
    let of = |lane: usize| (0..count).filter(|number| number % LANES == lane).collect::<Vec<_>>();
    let address = setup.world.address;
    let lanes = [
        tokio::spawn(send_http1(address, sets.clone(), of(0))),
        tokio::spawn(send_http1(address, sets.clone(), of(1))),
        tokio::spawn(send_http1(address, sets.clone(), of(2))),
        tokio::spawn(send_http2(address, sets.clone(), of(3))),
    ];
    for lane in lanes {
        lane.await.unwrap();
    }
    let calls = setup.world.fake.calls::<AuthorizeRequest>("authorize");
    let identities: std::collections::HashMap<_, _> =
        calls.into_iter().map(|(asked, context)| (context.request_id, asked.capture_id)).collect();
    let all = [setup.upstream.seen(), h2.seen()].concat();
    assert!(all.iter().any(|seen| seen.version == Version::HTTP_2), "both upstreams were asked");
    assert_eq!((all.len(), identities.len()), (count, count));
    for seen in all {
        let number: usize = seen.target.rsplit_once('v').unwrap().1.parse().unwrap();
        let capture = &identities[seen.headers["x-request-id"].to_str().unwrap()];
        check(&seen, number, &sets[number], capture, number % LANES != 3);
    }
}

//! A client cannot claim an identity before an upstream: ten thousand sets of headers that try.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use proptest::prelude::*;
use proto::paddock::{
    contract::v1::{CredentialKind, InternalHeader},
    job_token::v1::AuthorizeRequest,
};
use tracing::Level;

use crate::{
    attack_count,
    connection::KeptAlive,
    generate::generate,
    support::{
        log,
        protected::{Setup, identity, identity_header, job_header},
        upstream::{ReceivedRequest, Upstream, answer},
    },
};

/// The number of sets of claims in the long form.
const ALL_SETS: usize = 10_000;

/// A text in every value that a client claims. The gateway never sends it.
const CLAIM: &str = "mallory";

/// Headers by which upstreams identify callers.
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

/// Headers that may carry a credential. The gateway removes those that do.
const CARRYING: [&str; 6] = ["cookie", "referer", "x-nuget-apikey", "x-api-key", "x-anything", "x-build-token"];

/// Headers without a claim. The gateway forwards them unless the Connection header lists them.
const HARMLESS: [&str; 3] = ["x-checksum", "x-build", "accept-language"];

/// The claims of a request.
#[derive(Clone, Debug)]
struct Claims {
    headers: Vec<(String, String)>,
    /// The names in its Connection headers.
    listed: Vec<String>,
    /// Whether the body has the claims again as trailers.
    has_trailers: bool,
}

fn known() -> Vec<String> {
    let ours = InternalHeader::ALL.iter().filter_map(|header| header.spec()).map(|spec| spec.key);
    let own = ["paddock-user", "x-paddock-identity"];
    KNOWN.into_iter().chain(ours).chain(own).map(str::to_owned).collect()
}

/// Generates a name in another spelling: another case, and underscores or dots instead of hyphens.
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
            // Repeat the first claim, so that the result cannot depend on the order.
            if let Some(first) = headers.first().cloned() {
                headers.push(first);
            }
            headers.extend(carried);
            headers.extend(harmless.into_iter().map(|name| (name.to_owned(), "plain".to_owned())));
            Claims { headers, listed, has_trailers }
        },
    )
}

/// The first segments of the paths to the upstreams of HTTP/1.1 and HTTP/2.
const FIRST_SEGMENTS: [&str; 2] = ["one", "two"];

/// The number of connections of clients.
const CONNECTIONS: usize = 4;

fn path(number: usize) -> String {
    format!("/{}/42/v{number}", FIRST_SEGMENTS[number / CONNECTIONS % FIRST_SEGMENTS.len()])
}

/// Sends sets as raw bytes on one connection of HTTP/1.1. The path of each has its number.
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

/// Checks a request that the upstream received.
fn check(received: &ReceivedRequest, number: usize, claims: &Claims, capture: &str, is_http1: bool) {
    assert!(!received.has_trailers, "{number}: {claims:?}");
    for (name, value) in &received.headers {
        let value = value.to_str().unwrap();
        let is_host = name == "x-forwarded-host" && value == format!("{CLAIM}.example");
        assert!(!value.contains(CLAIM) || is_host, "{number}: {name}: {value}: {claims:?}");
        assert!(name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{number}: {name}");
    }
    let expected = [
        (identity_header().key, identity(capture)),
        ("x-forwarded-for", "127.0.0.1".to_owned()),
        ("x-forwarded-proto", "http".to_owned()),
    ];
    for (name, value) in expected {
        let values: Vec<_> = received.headers.get_all(name).iter().collect();
        assert_eq!(values, [value.as_str()], "{number}: {name}: {claims:?}");
    }
    for name in HARMLESS {
        let is_sent = claims.headers.iter().any(|(sent, _)| sent == name);
        let is_listed = is_http1 && claims.listed.iter().any(|listed| listed == name);
        assert_eq!(received.headers.contains_key(name), is_sent && !is_listed, "{number}: {name}: {claims:?}");
    }
    assert!(!["connection", "trailer", "te", "keep-alive"].iter().any(|name| received.headers.contains_key(*name)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_receives_the_identity_of_the_gateway_once_and_no_claim_of_a_client() {
    log::install_at(Level::ERROR);
    let route = "[[routes]]\nmethod = \"PUT\"\nprojects = [\"id\"]\npolicies = []\npath = ";
    let h2 = Upstream::start().await;
    let table = format!(
        "[upstreams.store]\nurl = \"{}\"\nprotocol = \"h2\"\n{route}\"/{}/{{id}}/{{tag}}\"\n\
         {route}\"/{}/{{id}}/{{tag}}\"\nupstream = \"store\"\n",
        h2.url(),
        FIRST_SEGMENTS[0],
        FIRST_SEGMENTS[1]
    );
    let setup = Setup::with_table(&table).await;
    setup.allow_without_captures();
    let count = attack_count(ALL_SETS);
    let sets = Arc::new(generate(&claims(), count, 7));
    for upstream in [&setup.upstream, &h2] {
        upstream.on(|_| async { answer(200, &[], "") });
    }
    let address = setup.world.address;
    let [first, second, third, fourth] =
        [0, 1, 2, 3].map(|connection| (connection..count).step_by(CONNECTIONS).collect::<Vec<_>>());
    let clients = [
        tokio::spawn(send_http1(address, sets.clone(), first)),
        tokio::spawn(send_http1(address, sets.clone(), second)),
        tokio::spawn(send_http1(address, sets.clone(), third)),
        tokio::spawn(send_http2(address, sets.clone(), fourth)),
    ];
    for client in clients {
        client.await.unwrap();
    }
    let calls = setup.world.fake.calls::<AuthorizeRequest>("authorize");
    let identities: std::collections::HashMap<_, _> =
        calls.into_iter().map(|(asked, context)| (context.request_id, asked.capture_id)).collect();
    let all = [setup.upstream.requests(), h2.requests()].concat();
    assert!(all.iter().any(|received| received.version == Version::HTTP_2), "both upstreams received requests");
    assert_eq!((all.len(), identities.len()), (count, count));
    for received in all {
        let number: usize = received.target.rsplit_once('v').unwrap().1.parse().unwrap();
        let capture = &identities[received.headers["x-request-id"].to_str().unwrap()];
        check(&received, number, &sets[number], capture, number % CONNECTIONS != 3);
    }
}

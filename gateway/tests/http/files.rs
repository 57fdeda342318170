//! Answers that are files: they stream through, piece by piece.

use futures::{StreamExt as _, stream};
use proto::paddock::{
    contract::v1::Reason,
    document::v1::Document,
    job_token::v1::{StreamAuthenticationLogCsvRequest, StreamAuthenticationLogCsvResponse},
};
use serde_json::json;
use tonic::Status;

use crate::support::{
    World,
    fake::{Fake, Pieces, Scripted},
    log, send, token, unique_id,
};

const PATH: &str = "/api/v4/projects/5/job_token_scope/authentication_log.csv";

type Piece = StreamAuthenticationLogCsvResponse;

fn piece(content: &[u8]) -> Result<Piece, Status> {
    Ok(Piece { document: Some(Document { content: content.to_vec(), ..Document::default() }) })
}

fn first(content: &[u8]) -> Result<Piece, Status> {
    let (content_type, file_name) = ("text/csv; charset=utf-8".into(), "log-5\"; x=.csv".into());
    Ok(Piece { document: Some(Document { content_type, file_name, content: content.to_vec() }) })
}

fn play(fake: &Fake, pieces: impl Fn() -> Pieces<Piece> + Send + Sync + 'static) {
    fake.on("stream_authentication_log_csv", move |_: StreamAuthenticationLogCsvRequest| {
        let pieces = Scripted(pieces());
        async move { Ok(pieces) }
    });
}

/// Both protocols: each has its own way to cut an answer off.
fn clients() -> [reqwest::Client; 2] {
    [reqwest::Client::new(), reqwest::Client::builder().http2_prior_knowledge().build().unwrap()]
}

#[tokio::test]
async fn a_file_is_answered_as_it_is() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    play(&world.fake, || stream::iter([first(b"a,\xff\r\n"), piece(b"b\r\n"), piece(b""), piece(b"c")]).boxed());
    for client in clients() {
        let request = client.get(format!("http://{}{PATH}", world.address)).header(header, &user);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
        assert_eq!(response.headers()["content-disposition"], "attachment; filename=\"log-5___x_.csv\"");
        assert_eq!(response.bytes().await.unwrap(), b"a,\xff\r\nb\r\nc".as_slice());
        let head = send(client.head(format!("http://{}{PATH}", world.address)).header(header, &user)).await;
        assert_eq!(
            (head.status, head.header("content-type"), head.body.as_str()),
            (200, "text/csv; charset=utf-8", "")
        );
    }
}

#[tokio::test]
async fn a_file_of_any_length_is_sent_as_it_is_made() {
    // Longer than any message may be.
    let world = World::start().await;
    let (header, user) = token::user_header();
    play(&world.fake, || {
        let pieces = stream::iter(0..80).map(|_| piece(&[b'x'; 1 << 20]));
        stream::iter([first(b"")]).chain(pieces).boxed()
    });
    let mut response = world.get(PATH).header(header, &user).send().await.unwrap();
    let mut length = 0;
    while let Some(piece) = response.chunk().await.unwrap() {
        length += piece.len();
    }
    assert_eq!(length, 80 << 20);
}

#[tokio::test]
async fn what_fails_before_the_first_piece_is_answered_as_what_it_is() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let refusal = chassis::status::Refusal::new(Reason::ProjectNotFound);
    world.fake.refuses::<StreamAuthenticationLogCsvRequest, Scripted<Piece>>("stream_authentication_log_csv", refusal);
    assert_eq!(send(world.get(PATH).header(header, &user)).await.status, 404);
    play(&world.fake, || stream::empty().boxed());
    assert_eq!(send(world.get(PATH).header(header, &user)).await.status, 500);
}

#[tokio::test]
async fn what_fails_on_the_way_cuts_the_answer_off() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    play(&world.fake, || {
        let fault: Status = chassis::status::Fault::unavailable("the test says so").into();
        stream::iter([first(b"a\r\n"), piece(b"b\r\n"), Err(fault)]).boxed()
    });
    for client in clients() {
        let id = unique_id();
        let request = client.get(format!("http://{}{PATH}", world.address)).header("x-request-id", &id);
        // The head may come alone, or not at all any more.
        let response = request.header(header, &user).send().await;
        let body = match response {
            Ok(response) => response.bytes().await,
            Err(error) => Err(error),
        };
        assert!(body.is_err(), "the client takes it for whole: {body:?}");
        let [line] = log::access(&id).try_into().expect("one line");
        let told = ["status", "reason", "cut_off"].map(|name| &line[name]);
        assert_eq!(json!(told), json!([200, "unavailable", "upstream"]), "{line}");
        assert!(log::everything().contains("an answer was cut off"));
    }
}

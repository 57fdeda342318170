//! Downloads: they are streamed, chunk by chunk.

use futures::{StreamExt as _, stream};
use proto::paddock::{
    contract::v1::Reason,
    document::v1::Document,
    job_token::v1::{StreamAuthenticationLogCsvRequest, StreamAuthenticationLogCsvResponse},
};
use serde_json::json;
use tonic::Status;

use crate::support::{
    World, clients_of_both_protocols,
    fake::{Fake, MessageStream, StreamedAnswer},
    log, send, token, unique_id,
};

const PATH: &str = "/api/v4/projects/5/job_token_scope/authentication_log.csv";

type Chunk = StreamAuthenticationLogCsvResponse;

fn chunk(content: &[u8]) -> Result<Chunk, Status> {
    Ok(Chunk { document: Some(Document { content: content.to_vec(), ..Document::default() }) })
}

fn first_chunk(content: &[u8]) -> Result<Chunk, Status> {
    let document = Document {
        content_type: "text/csv; charset=utf-8".into(),
        file_name: "log-5\"; x=.csv".into(),
        content: content.to_vec(),
    };
    Ok(Chunk { document: Some(document) })
}

fn answer_with(fake: &Fake, chunks: impl Fn() -> MessageStream<Chunk> + Send + Sync + 'static) {
    fake.on("stream_authentication_log_csv", move |_: StreamAuthenticationLogCsvRequest| {
        let answer = StreamedAnswer(chunks());
        async move { Ok(answer) }
    });
}

#[tokio::test]
async fn a_file_is_answered_unchanged() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    answer_with(&world.fake, || {
        stream::iter([first_chunk(b"a,\xff\r\n"), chunk(b"b\r\n"), chunk(b""), chunk(b"c")]).boxed()
    });
    for client in clients_of_both_protocols() {
        let request = client.get(world.url(PATH)).header(header, &user);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
        assert_eq!(response.headers()["content-disposition"], "attachment; filename=\"log-5___x_.csv\"");
        assert_eq!(response.bytes().await.unwrap(), b"a,\xff\r\nb\r\nc".as_slice());
        let head = send(client.head(world.url(PATH)).header(header, &user)).await;
        assert_eq!(
            (head.status, head.header("content-type"), head.body.as_str()),
            (200, "text/csv; charset=utf-8", "")
        );
    }
}

#[tokio::test]
async fn a_file_of_any_length_is_streamed() {
    // Longer than the maximum size of a message.
    let world = World::start().await;
    let (header, user) = token::user_header();
    answer_with(&world.fake, || {
        let chunks = stream::iter(0..80).map(|_| chunk(&[b'x'; 1 << 20]));
        stream::iter([first_chunk(b"")]).chain(chunks).boxed()
    });
    let mut response = world.get(PATH).header(header, &user).send().await.unwrap();
    let mut length = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        length += chunk.len();
    }
    assert_eq!(length, 80 << 20);
}

#[tokio::test]
async fn a_failure_before_the_first_chunk_is_answered_with_its_status() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let refusal = chassis::status::Refusal::new(Reason::ProjectNotFound);
    world
        .fake
        .refuses::<StreamAuthenticationLogCsvRequest, StreamedAnswer<Chunk>>("stream_authentication_log_csv", refusal);
    assert_eq!(send(world.get(PATH).header(header, &user)).await.status, 404);
    answer_with(&world.fake, || stream::empty().boxed());
    assert_eq!(send(world.get(PATH).header(header, &user)).await.status, 500);
}

#[tokio::test]
async fn a_failure_after_the_first_chunk_cuts_the_answer_off() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    answer_with(&world.fake, || {
        let fault: Status = chassis::status::Fault::unavailable("the test says so").into();
        stream::iter([first_chunk(b"a\r\n"), chunk(b"b\r\n"), Err(fault)]).boxed()
    });
    for client in clients_of_both_protocols() {
        let id = unique_id();
        let request = client.get(world.url(PATH)).header("x-request-id", &id);
        // The client may receive the head, or nothing.
        let response = request.header(header, &user).send().await;
        let body = match response {
            Ok(response) => response.bytes().await,
            Err(error) => Err(error),
        };
        assert!(body.is_err(), "the client believes that the body is complete: {body:?}");
        let [line] = log::access(&id).try_into().expect("one line");
        let fields = ["status", "reason", "cut_off"].map(|name| &line[name]);
        assert_eq!(json!(fields), json!([200, "unavailable", "upstream"]), "{line}");
        assert!(log::everything().contains("an answer was cut off"));
    }
}

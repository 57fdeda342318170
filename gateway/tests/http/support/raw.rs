//! Requests as raw bytes, for requests that HTTP clients do not send.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::Answer;

/// The result of a request that was written completely before the answer was read.
#[derive(Debug)]
pub struct Outcome {
    pub written: Result<(), std::io::ErrorKind>,
    pub answer: Option<Answer>,
}

/// Sends the bytes and reads until the gateway closes the connection.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read(&mut stream).await
}

/// Sends a request without a body, with the path unchanged, and reads the answer.
pub async fn request(address: SocketAddr, verb: &str, path: &str, headers: &str) -> Answer {
    let text = format!("{verb} {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n{headers}\r\n");
    exchange(address, text.as_bytes()).await.expect("an answer")
}

/// Reads an answer until the connection ends. Returns none if it is not HTTP/1.
pub async fn read(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    // The connection may end with a reset after the answer.
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Some(Answer { status, headers, body: body.to_owned() })
}

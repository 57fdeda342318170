//! Requests byte by byte, for what no proper client sends.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::Answer;

/// Sends the bytes and reads until the gateway closes the connection.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read(&mut stream).await
}

/// Sends a request without a body for a path as it stands, and reads the answer.
pub async fn request(address: SocketAddr, verb: &str, path: &str, headers: &str) -> Answer {
    let text = format!("{verb} {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n{headers}\r\n");
    exchange(address, text.as_bytes()).await.expect("an answer")
}

/// A connection of HTTP/1.1 that is kept for many requests.
pub struct KeptAlive(BufReader<TcpStream>);

impl KeptAlive {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    /// Sends the bytes of one request, and returns the status of its answer, and whether the connection stays open; none
    /// if there was no answer.
    pub async fn exchange(&mut self, bytes: &[u8]) -> Option<(u16, bool)> {
        self.0.get_mut().write_all(bytes).await.ok()?;
        let mut line = String::new();
        self.0.read_line(&mut line).await.ok()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let (mut length, mut is_open) = (0, true);
        while line != "\r\n" {
            line.clear();
            if self.0.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
            match name {
                "content-length" => length = value.parse().ok()?,
                "connection" => is_open = value != "close",
                _ => {}
            }
        }
        self.0.read_exact(&mut vec![0; length]).await.ok()?;
        Some((status, is_open))
    }
}

/// Reads an answer until the connection ends; none if what came is not HTTP/1.
pub async fn read(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    // A reset after the answer is as good an end as any.
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

//! A connection for thousands of raw requests.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// A connection of HTTP/1.1 that is reused.
pub struct KeptAlive(BufReader<TcpStream>);

impl KeptAlive {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    /// Sends the bytes of one request. Returns the status of the answer and whether the connection stays open, or none
    /// without an answer.
    pub async fn exchange(&mut self, bytes: &[u8]) -> Option<(u16, bool)> {
        self.0.get_mut().write_all(bytes).await.ok()?;
        let mut line = String::new();
        self.0.read_line(&mut line).await.ok()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut length = 0;
        let mut is_open = true;
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

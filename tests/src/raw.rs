//! HTTP/1.1 byte by byte, for requests that an HTTP client cannot send.

use std::io::{self, ErrorKind};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Sends the bytes on a new connection and reads until the server closes it. Returns status, head and body.
pub async fn exchange(port: u16, request: &[u8]) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
    // A server that refuses early may close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, head.to_owned(), body.to_owned())
}

/// A request with these lines after the request line, closing the connection.
#[must_use]
pub fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("{line} HTTP/1.1\r\nhost: paddock\r\nconnection: close\r\n").into_bytes();
    for (name, value) in headers {
        out.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    out.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
    out.extend(body);
    out
}

/// A complete answer on a [`Connection`].
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The status line and the headers, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

impl RawAnswer {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// A persistent connection, for many requests in a row with little work of the client.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(port: u16) -> Self {
        Self::try_open(port).await.expect("the server listens")
    }

    /// Connects to a server that may be down.
    ///
    /// # Errors
    /// If nothing listens on the port.
    pub async fn try_open(port: u16) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect(("127.0.0.1", port)).await?, buffer: Vec::new() })
    }

    /// Posts a JSON body and reads the answer, which has a length.
    pub async fn post(&mut self, path: &str, body: &str) -> RawAnswer {
        self.try_post(path, &[], body).await.expect("the server answers")
    }

    /// Posts a JSON body and reads the answer of a server that may end at any moment.
    ///
    /// # Errors
    /// If there is no complete answer.
    pub async fn try_post(&mut self, path: &str, headers: &[(&str, &str)], body: &str) -> io::Result<RawAnswer> {
        self.write(path, headers, body).await?;
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        let mut answer = RawAnswer { status, head, body: String::new() };
        let length = answer.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let all = end + length;
        while self.buffer.len() < all {
            self.read().await?;
        }
        answer.body = String::from_utf8_lossy(&self.buffer[end..all]).into_owned();
        self.buffer.drain(..all);
        Ok(answer)
    }

    /// Posts a JSON body and closes the connection without waiting for the answer. Returns when the server has closed it, too, and is
    /// done with the request.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn send_and_hang_up(mut self, path: &str, headers: &[(&str, &str)], body: &str) -> io::Result<()> {
        self.write(path, headers, body).await?;
        self.stream.shutdown().await?;
        self.stream.read_to_end(&mut self.buffer).await?;
        Ok(())
    }

    /// Reports whether the server has left it open, as far as this side knows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    async fn write(&mut self, path: &str, headers: &[(&str, &str)], body: &str) -> io::Result<()> {
        let length = body.len();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: paddock\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        self.stream.write_all((request + body).as_bytes()).await
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

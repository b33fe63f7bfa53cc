//! HTTP by hand, as far as the benchmarks need it: the other ends of what is measured share its
//! machine and have to cost little.

use std::io;

use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::system::TOKEN;

/// The head of an answer that streams.
pub(crate) const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    connection: close\r\ntransfer-encoding: chunked\r\n\r\n";
/// Ends a body that [`chunk`]s made.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A request after which the other side closes the connection.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A message of a new visitor.
pub(crate) fn chat(session: &str) -> Vec<u8> {
    let body =
        format!("{{\"session_id\":\"{session}\",\"message_id\":\"m\",\"message\":\"benchmark\"}}");
    post("/chat", &format!("x-widget-token: {TOKEN}\r\n"), &body)
}

/// Reads a request, and forgets it.
pub(crate) async fn read_request(tcp: &mut TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if tcp.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Whether the head and as many bytes as it announces are there.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    request.len() >= head.len() + 4 + length
}

/// A part of a body.
pub(crate) fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

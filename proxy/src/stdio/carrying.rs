//! Between the way of a request and the server of a program: its body is read whole, because a program gets messages,
//! not pieces of them.

use super::{Body, Server, reply};
use crate::{
    admission::Admission,
    held_bytes::Hold,
    reception::READ_OF_REFUSED,
    source::Source,
    tap::Tap,
    upstream::{Sent, Upload, late_upload, no_room_to_hold, upload_broken},
};
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;

/// What is set aside for a body before any of it has come.
const MAX_PREPARED: u64 = 64 << 10;
/// How much is read of a body that no program gets.
const MAX_READ_UNWANTED: usize = 64 << 10;

impl Server {
    /// Has a request answered.
    pub(crate) async fn carry(
        &self,
        request: Request<Box<Upload>>,
        tap: &Tap,
        admission: &Admission,
    ) -> Sent<Response<Source>> {
        let (parts, mut upload) = request.into_parts();
        if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            let problem = "mcpmeter: this server takes no encoded bodies";
            return answered(reply::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
        }
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let body = if is_read(&parts.method, target) {
            match self.read(&mut upload, admission).await {
                Ok(body) => body,
                Err(sent) => return *sent,
            }
        } else {
            if !parts.headers.contains_key(header::EXPECT) {
                // For the record only.
                let reading = upload.read_off(MAX_READ_UNWANTED);
                let _ = tokio::time::timeout(READ_OF_REFUSED, reading).await;
            }
            Bytes::new()
        };
        // The room that it has taken is free while the program works.
        drop(upload);
        match self.answer(&parts, target, body, tap).await {
            Ok(response) => answered(response),
            Err(failure) => Sent::Broken(failure),
        }
    }

    /// All of a body, or what to say instead.
    async fn read(
        &self,
        upload: &mut Upload,
        admission: &Admission,
    ) -> Result<Bytes, Box<Sent<Response<Source>>>> {
        let limit = self.max_message_bytes() as u64;
        let reading = collect(upload, limit, admission.hold());
        let Ok(collected) = tokio::time::timeout(admission.body_timeout, reading).await else {
            return Err(Box::new(Sent::Broken(late_upload(admission.body_timeout))));
        };
        Err(Box::new(match collected {
            Ok(body) => return Ok(body),
            Err(Uncollected::TooLong) => {
                let limit = self.command.max_message_mib;
                let problem = format!("mcpmeter: the message is longer than {limit} MiB (max_message_mib)");
                answered(reply::text(StatusCode::PAYLOAD_TOO_LARGE, &problem))
            }
            Err(Uncollected::NoRoom) => Sent::Broken(no_room_to_hold()),
            Err(Uncollected::BrokenOff(error)) => Sent::Broken(upload_broken(&error)),
        }))
    }
}

/// Whether a program gets the body of such a request.
fn is_read(method: &Method, target: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    method == Method::POST && matches!(path, "/mcp" | "/message")
}

/// Why a body is not there.
enum Uncollected {
    TooLong,
    NoRoom,
    BrokenOff(hyper::Error),
}

async fn collect(upload: &mut Upload, limit: u64, mut hold: Hold) -> Result<Bytes, Uncollected> {
    let told = upload.size_hint().lower();
    if told > limit {
        return Err(Uncollected::TooLong);
    }
    let (mut first, mut body) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = upload.frame().await {
        let Ok(data) = frame.map_err(Uncollected::BrokenOff)?.into_data() else { continue };
        if first.is_empty() && body.is_empty() {
            // Mostly all there is. What was gathered to be judged is in one piece, and has its room.
            first = data;
            continue;
        }
        let len = (first.len() + body.len() + data.len()) as u64;
        if len > limit {
            return Err(Uncollected::TooLong);
        }
        if !hold.grow_to(len) {
            return Err(Uncollected::NoRoom);
        }
        if body.is_empty() {
            body.reserve(told.min(MAX_PREPARED) as usize);
            body.extend_from_slice(&std::mem::take(&mut first));
        }
        body.extend_from_slice(&data);
    }
    if first.len() as u64 > limit {
        return Err(Uncollected::TooLong);
    }
    Ok(if body.is_empty() { first } else { body.freeze() })
}

fn answered(response: Response<Body>) -> Sent<Response<Source>> {
    Sent::Answered(response.map(|body| Source::Program(Box::new(body))))
}

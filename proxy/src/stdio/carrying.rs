//! Between the way of a request and the server of a program: its body is read whole, because a program gets messages,
//! not pieces of them.

use super::{Body, Server, reply};
use crate::{
    source::Source,
    tap::Tap,
    upstream::{Sent, Upload, upload_broken},
};
use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;

/// What is set aside for a body before any of it has come.
const MAX_PREPARED: u64 = 64 << 10;

impl Server {
    /// Has a request answered.
    pub(crate) async fn carry(&self, request: Request<Box<Upload>>, tap: &Tap) -> Sent<Response<Source>> {
        let (parts, mut upload) = request.into_parts();
        if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            let problem = "mcpmeter: this server takes no encoded bodies";
            return answered(reply::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
        }
        let body = match self.read(&mut upload).await {
            Ok(Some(body)) => body,
            Ok(None) => {
                let limit = self.command.max_message_mib;
                let problem = format!("mcpmeter: the message is longer than {limit} MiB (max_message_mib)");
                return answered(reply::text(StatusCode::PAYLOAD_TOO_LARGE, &problem));
            }
            Err(error) => return Sent::Broken(upload_broken(&error)),
        };
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        match self.answer(&parts, target, body, tap).await {
            Ok(response) => answered(response),
            Err(failure) => Sent::Broken(failure),
        }
    }

    /// `None` if it is too long.
    async fn read(&self, upload: &mut Upload) -> Result<Option<Bytes>, hyper::Error> {
        let limit = self.max_message_bytes();
        let told = upload.size_hint();
        if told.lower() > limit as u64 {
            return Ok(None);
        }
        let mut body: Option<BytesMut> = None;
        let mut first = Bytes::new();
        while let Some(frame) = upload.frame().await.transpose()? {
            let Ok(data) = frame.into_data() else { continue };
            if first.is_empty() && body.is_none() {
                // Mostly all there is.
                first = data;
            } else {
                let body = body.get_or_insert_with(|| {
                    let mut body = BytesMut::with_capacity(told.lower().min(MAX_PREPARED) as usize);
                    body.extend_from_slice(&first);
                    body
                });
                body.extend_from_slice(&data);
            }
            if body.as_ref().map_or(first.len(), BytesMut::len) > limit {
                return Ok(None);
            }
        }
        Ok(Some(body.map_or(first, BytesMut::freeze)))
    }
}

fn answered(response: Response<Body>) -> Sent<Response<Source>> {
    Sent::Answered(response.map(|body| Source::Program(Box::new(body))))
}

//! The answer on its way to the client: what of its head is changed, what of its body, and what is held until the last
//! byte has gone. Never reads ahead and never ends in order an answer that did not.

use crate::{
    admission::Leave,
    auth::{BodyPatch, METADATA, PublicUrl, ResourcePatch},
    headers,
    occupancy::Place,
    patience::Answering,
    route::Route,
    source::Source,
    tap::{AnswerBroke, ResponseBody, TapOwner},
    timed::Timed,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, request::Parts};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use mcpmeter_observer::{EndpointPatch, Failure, Mount};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// Why an answer breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenOff {
    /// The upstream's side broke.
    #[error(transparent)]
    Upstream(#[from] AnswerBroke),
    /// A limit of the route was reached.
    #[error("the answer took longer than configured")]
    OutOfTime,
}

/// What a client is sent.
pub(crate) struct AnswerBody {
    pub(crate) content: Content,
    /// Until it is dropped, the connection is busy.
    pub(crate) _answering: Answering,
}

/// An upstream's answer, or one of our own.
pub(crate) enum Content {
    Carried(Carried),
    Timed(Timed),
    Own(Full<Bytes>),
}

/// An upstream's answer, with what it holds.
pub(crate) struct Carried {
    body: ResponseBody,
    held: Held,
}

/// What an exchange has until its answer's end: a place in its route, and leave by its limits.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) _place: Option<Place>,
    pub(crate) _leave: Option<Box<Leave>>,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.get_mut().content {
            Content::Carried(carried) => carried.poll_frame(cx),
            Content::Timed(timed) => timed.poll_frame(cx),
            Content::Own(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Carried(carried) => carried.body.is_end_stream(),
            Content::Timed(timed) => timed.look(|carried| carried.body.is_end_stream()),
            Content::Own(text) => text.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Carried(carried) => carried.body.size_hint(),
            Content::Timed(timed) => timed.look(|carried| carried.body.size_hint()),
            Content::Own(text) => text.size_hint(),
        }
    }
}

impl Carried {
    /// Ends it, with all that it holds. It must not look complete.
    pub(crate) fn cut(&mut self, failure: Failure) {
        // The client has the upstream's own status already.
        self.body.cut(&Failure { http_status: None, ..failure });
        self.held = Held::default();
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Pin::new(&mut self.body).poll_frame(cx).map_err(BrokenOff::from)
    }
}

/// What has to be done with the answer to one request, as far as that is known from its head.
pub(crate) struct Treatment {
    /// The answer may be the stream of a legacy client.
    endpoint: bool,
    /// The answer may be metadata of the upstream.
    metadata: bool,
    public: Option<PublicUrl>,
}

impl Treatment {
    /// `target` is the upstream's path and query.
    pub(crate) fn of(parts: &Parts, target: &str, route: &Route, speaks_tls: bool) -> Self {
        let rewrites = route.config.auth_rewrite == mcpmeter_config::AuthRewrite::Urls;
        let public = rewrites.then(|| PublicUrl::of(parts, route.instance.mount(), speaks_tls)).flatten();
        let is_get = parts.method == Method::GET;
        Self {
            endpoint: is_get && route.patches_endpoint(),
            metadata: is_get && public.is_some() && target.starts_with(METADATA),
            public,
        }
    }

    /// Whether the answer has to come as it is, because its body may have to be changed.
    pub(crate) const fn needs_plain(&self) -> bool {
        self.endpoint || self.metadata
    }

    /// The upstream's answer as it goes to the client.
    pub(crate) fn apply(
        self,
        response: Response<Source>,
        owner: TapOwner,
        route: &Route,
        held: Held,
    ) -> Response<Carried> {
        let (mut parts, source) = response.into_parts();
        owner.tap().tell(|exchange, now| exchange.handle_response_head(parts.status, &parts.headers, now));
        headers::prepare_response(&mut parts.headers);
        parts.version = Version::HTTP_11;
        let mount = route.instance.mount();
        if route.config.rewrite_location {
            map_locations(&mut parts.headers, mount);
        }
        if let Some(public) = &self.public {
            public.rewrite_challenges(&mut parts.headers);
        }
        let patch = self.body_patch(parts.status, &mut parts.headers, mount);
        let body = ResponseBody::new(source, owner, patch);
        Response::from_parts(parts, Carried { body, held })
    }

    fn body_patch(
        self,
        status: StatusCode,
        headers: &mut HeaderMap,
        mount: &Mount,
    ) -> Option<Box<BodyPatch>> {
        let is_plain = headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
        if !is_plain {
            return None;
        }
        // The length of a stream was not told, or its first event must stay.
        if self.endpoint
            && is_of(headers, "text/event-stream")
            && !headers.contains_key(header::CONTENT_LENGTH)
        {
            return Some(Box::new(BodyPatch::Endpoint(EndpointPatch::new(mount.clone()))));
        }
        if self.metadata && status == StatusCode::OK && is_of(headers, "application/json") {
            headers.remove(header::CONTENT_LENGTH);
            return self.public.map(|public| Box::new(BodyPatch::Resource(ResourcePatch::new(public))));
        }
        None
    }
}

/// `Location` and `Content-Location` that point into the upstream lead the client back through the route.
fn map_locations(headers: &mut HeaderMap, mount: &Mount) {
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let mapped = headers.get(&name).and_then(|value| mount.map_reference(value.to_str().ok()?));
        if let Some(value) = mapped.and_then(|mapped| HeaderValue::from_str(&mapped).ok()) {
            headers.insert(name, value);
        }
    }
}

fn is_of(headers: &HeaderMap, media_type: &str) -> bool {
    let essence = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(media_type))
}

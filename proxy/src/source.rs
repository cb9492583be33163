//! Where the body of an answer comes from: an upstream's connection, which is given back behind it, or a program.

use crate::{
    stdio,
    upstream::{self, Lease, failure_mid_body},
};
use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mcpmeter_observer::Failure;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// The body of an answer as its server gives it.
pub(crate) enum Source {
    /// Dropped before the end, the connection goes with it.
    Network(Incoming, Option<Lease>),
    Program(Box<stdio::Body>),
    /// Nobody wants it any more. It never ends.
    Forsaken,
}

impl Source {
    /// An upstream's answer with its body as a source.
    pub(crate) fn of_answer((response, lease): upstream::Answer) -> Response<Self> {
        response.map(|body| Self::Network(body, Some(lease)))
    }

    /// Its end has been seen.
    pub(crate) fn give_back(&mut self) {
        if let Self::Network(_, lease) = self
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
    }

    /// Nothing more of it is wanted: its server is told so.
    pub(crate) fn forsake(&mut self) {
        *self = Self::Forsaken;
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Box<Failure>>>> {
        match self {
            Self::Network(body, _) => {
                Pin::new(body).poll_frame(cx).map_err(|error| Box::new(failure_mid_body(&error)))
            }
            Self::Program(body) => Pin::new(&mut **body)
                .poll_frame(cx)
                // The client has a status already.
                .map_err(|failure| Box::new(Failure { http_status: None, ..failure })),
            Self::Forsaken => Poll::Pending,
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Network(body, _) => body.is_end_stream(),
            Self::Program(body) => body.is_end_stream(),
            Self::Forsaken => false,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Network(body, _) => body.size_hint(),
            Self::Program(body) => body.size_hint(),
            Self::Forsaken => SizeHint::default(),
        }
    }
}

//! The MCP server behind every contender: answers from bytes rendered before the first request, on one thread, in a
//! process of its own so that its CPU is never counted as a proxy's. Keeps no state between calls.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Sleep;

use crate::exchange::{Answer, EVENT_GAP, Exchange, recognize_request};
use crate::template::{CallId, Template};

/// The path it serves; every other one is answered with 404.
pub(crate) const PATH: &str = "/mcp";

/// What a GET is answered with, before nothing.
pub(crate) const COMMENT: &[u8] = b": nothing yet\n\n";

/// Listens on `port` of the loopback (0: any free one), prints the port and serves for ever.
/// Must run inside a `LocalSet`.
pub(crate) async fn run_upstream(port: u16) -> io::Result<Infallible> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    println!("{}", listener.local_addr()?.port());
    let answers: Answers = Rc::new(Exchange::ALL.map(|exchange| (exchange, exchange.answer())).into());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                connections.spawn_local(serve_connection(stream, Rc::clone(&answers)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

type Answers = Rc<Vec<(Exchange, Answer)>>;

async fn serve_connection(stream: TcpStream, answers: Answers) {
    let service = hyper::service::service_fn(move |request| answer_request(request, Rc::clone(&answers)));
    // A proxy may drop an idle connection whenever it likes; what matters is noticed by the load generator.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer_request(
    request: Request<Incoming>,
    answers: Answers,
) -> Result<Response<AnswerBody>, Infallible> {
    if request.uri().path() != PATH {
        return Ok(refuse(StatusCode::NOT_FOUND));
    }
    if request.method() == Method::GET {
        let response = Response::builder().header(CONTENT_TYPE, "text/event-stream");
        return Ok(response.body(AnswerBody::endless(COMMENT)).expect("the headers are constants"));
    }
    let Ok(body) = request.into_body().collect().await else {
        return Ok(refuse(StatusCode::BAD_REQUEST));
    };
    let Some((asked, id)) = recognize_request(&body.to_bytes()) else {
        return Ok(refuse(StatusCode::BAD_REQUEST));
    };
    let (_, answer) = answers.iter().find(|(exchange, _)| *exchange == asked).expect("all are rendered");
    let response = Response::builder()
        .header(CONTENT_TYPE, answer.content_type())
        .header(CACHE_CONTROL, "no-cache, no-transform")
        .body(render_answer(answer, &id));
    Ok(response.expect("the headers are constants"))
}

fn render_answer(answer: &Answer, id: &[u8; CallId::DIGITS]) -> AnswerBody {
    let render = |event: &Template| {
        let mut bytes = Vec::with_capacity(event.len());
        event.render(id, &mut bytes);
        bytes.into()
    };
    match answer {
        Answer::Json(template) => {
            let (front, back) = template.render_shared(id);
            AnswerBody::new(vec![front, back], false)
        }
        Answer::Events(events) => AnswerBody::new(events.iter().map(render).collect(), true),
    }
}

fn refuse(status: StatusCode) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::new(Vec::new(), false));
    *response.status_mut() = status;
    response
}

/// The rendered parts of an answer: all at once with a Content-Length, or one by one as time passes.
struct AnswerBody {
    parts: std::vec::IntoIter<Bytes>,
    paced: bool,
    endless: bool,
    /// Runs between two parts of a paced answer.
    pause: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    fn new(parts: Vec<Bytes>, paced: bool) -> Self {
        Self { parts: parts.into_iter(), paced, endless: false, pause: None }
    }

    fn endless(beginning: &'static [u8]) -> Self {
        Self { endless: true, ..Self::new(vec![Bytes::from_static(beginning)], true) }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
        }
        let part = self.parts.next();
        if part.is_none() && self.endless {
            // Its connection ends it.
            return Poll::Pending;
        }
        let more = !self.parts.as_slice().is_empty();
        self.pause = (self.paced && more).then(|| Box::pin(tokio::time::sleep(EVENT_GAP)));
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.as_slice().is_empty() && !self.endless
    }

    fn size_hint(&self) -> SizeHint {
        if self.paced {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.parts.as_slice().iter().map(|part| part.len() as u64).sum())
    }
}

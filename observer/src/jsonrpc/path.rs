//! Which parts of a message are wanted: the tree of keys, from the root to the leaves.
//!
//! The tree is at most [`MAX_DEPTH`] levels deep, so the scanner needs no recursion and no growing stack.

/// Levels of containers on the longest way to a leaf: batch, message, `result`, `result`, `content`, its item.
pub(super) const MAX_DEPTH: usize = 6;

/// A value that is kept. The leaves of one container stand together, so that they can be forgotten together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Leaf {
    /// `id`, as written.
    Id,
    /// `method`.
    Method,
    /// `params.name`.
    Name,
    /// `params.requestId`, of a `notifications/cancelled`, as written.
    RequestId,
    /// `params.reason`, of the same.
    Reason,
    /// `params.progressToken`, of a `notifications/progress`, as written.
    ProgressToken,
    /// `params.taskId`.
    ParamsTaskId,
    /// `params.status`, of a `notifications/tasks`.
    ParamsStatus,
    /// `params.statusMessage`, of the same.
    ParamsStatusMessage,
    /// `params.result.isError`, of the same.
    ParamsIsError,
    /// `params.error.code`, of the same.
    ParamsErrorCode,
    /// `params.error.message`, of the same.
    ParamsErrorMessage,
    /// `params.requestState`.
    ParamsRequestState,
    /// `params.protocolVersion`, of an `initialize`.
    ParamsVersion,
    /// `params.clientInfo.name`, of an `initialize`.
    ClientName,
    /// `params.clientInfo.version`, of an `initialize`.
    ClientVersion,
    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`.
    MetaVersion,
    /// `params._meta.traceparent` (SEP-414).
    Traceparent,
    /// `params._meta.progressToken`, as written: what progress of this request will be told by.
    MetaProgressToken,
    /// `params._meta["io.modelcontextprotocol/clientInfo"].name` (2026-07-28).
    MetaClientName,
    /// `params._meta["io.modelcontextprotocol/clientInfo"].version`.
    MetaClientVersion,
    /// `result.isError`.
    IsError,
    /// `result.resultType`.
    ResultType,
    /// `result.taskId`.
    ResultTaskId,
    /// `result.status`, of a `tasks/get`.
    ResultStatus,
    /// `result.statusMessage`, of the same.
    ResultStatusMessage,
    /// `result.protocolVersion`, of an `initialize`.
    ResultVersion,
    /// `result.requestState`.
    ResultRequestState,
    /// `result.task.taskId` (2025-11-25).
    TaskId,
    /// The first `result.content[].text`.
    ContentText,
    /// `result.result.isError`, inside `tasks/get`.
    InnerIsError,
    /// The first `result.result.content[].text`.
    InnerContentText,
    /// `result.error.code`, inside `tasks/get`.
    InnerErrorCode,
    /// `result.error.message`, inside `tasks/get`.
    InnerErrorMessage,
    /// `error.code`.
    ErrorCode,
    /// `error.message`.
    ErrorMessage,
    /// `error.data`, raw.
    ErrorData,
}

impl Leaf {
    /// How many there are.
    pub(super) const COUNT: usize = Self::ErrorData as usize + 1;

    /// The most bytes kept of it, as written; what is longer is cut and flagged.
    pub const fn cap(self) -> usize {
        match self {
            // Two ids that differ only behind this point would be taken for one.
            Self::Id | Self::RequestId | Self::ProgressToken | Self::MetaProgressToken => 1024,
            Self::ContentText
            | Self::InnerContentText
            | Self::ErrorMessage
            | Self::InnerErrorMessage
            | Self::ParamsErrorMessage
            | Self::ResultStatusMessage
            | Self::ParamsStatusMessage => 2048,
            Self::ParamsRequestState | Self::ResultRequestState => 4096,
            Self::ErrorData => 8192,
            _ => 256,
        }
    }

    /// Ids are compared as they were written, and most contents are never looked at.
    pub(super) const fn keeps_escapes(self) -> bool {
        matches!(
            self,
            Self::Id
                | Self::RequestId
                | Self::ProgressToken
                | Self::MetaProgressToken
                | Self::ContentText
                | Self::InnerContentText
        )
    }

    /// Of a content only the first text tells what went wrong.
    pub(super) const fn is_first_only(self) -> bool {
        matches!(self, Self::ContentText | Self::InnerContentText)
    }
}

/// A container on the way to a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Batch,
    Message,
    Params,
    ClientInfo,
    Meta,
    MetaClientInfo,
    Result,
    Task,
    Tools,
    Content,
    ContentItem,
    InnerResult,
    InnerContent,
    InnerContentItem,
    InnerError,
    ParamsResult,
    ParamsError,
    Error,
}

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The whole document: a message or a batch of them.
    Root,
    /// Descend, if it is a container.
    Node(Node),
    /// Keep it.
    Leaf(Leaf),
    /// Pass over it.
    Skip,
}

impl Node {
    /// What a key of this object leads to.
    pub(super) fn child(self, key: &[u8]) -> Target {
        use Target::{Leaf as L, Node as N};
        match self {
            Self::Message => match key {
                b"id" => L(Leaf::Id),
                b"method" => L(Leaf::Method),
                b"params" => N(Self::Params),
                b"result" => N(Self::Result),
                b"error" => N(Self::Error),
                _ => Target::Skip,
            },
            Self::Params => params_child(key),
            Self::Meta => match key {
                b"traceparent" => L(Leaf::Traceparent),
                b"progressToken" => L(Leaf::MetaProgressToken),
                b"io.modelcontextprotocol/protocolVersion" => L(Leaf::MetaVersion),
                b"io.modelcontextprotocol/clientInfo" => N(Self::MetaClientInfo),
                _ => Target::Skip,
            },
            Self::ClientInfo => match key {
                b"name" => L(Leaf::ClientName),
                b"version" => L(Leaf::ClientVersion),
                _ => Target::Skip,
            },
            Self::MetaClientInfo => match key {
                b"name" => L(Leaf::MetaClientName),
                b"version" => L(Leaf::MetaClientVersion),
                _ => Target::Skip,
            },
            Self::Result => result_child(key),
            Self::Task if key == b"taskId" => L(Leaf::TaskId),
            Self::ContentItem if key == b"text" => L(Leaf::ContentText),
            Self::InnerResult if key == b"isError" => L(Leaf::InnerIsError),
            Self::InnerResult if key == b"content" => N(Self::InnerContent),
            Self::InnerContentItem if key == b"text" => L(Leaf::InnerContentText),
            Self::ParamsResult if key == b"isError" => L(Leaf::ParamsIsError),
            Self::ParamsError => match key {
                b"code" => L(Leaf::ParamsErrorCode),
                b"message" => L(Leaf::ParamsErrorMessage),
                _ => Target::Skip,
            },
            Self::InnerError => match key {
                b"code" => L(Leaf::InnerErrorCode),
                b"message" => L(Leaf::InnerErrorMessage),
                _ => Target::Skip,
            },
            Self::Error => match key {
                b"code" => L(Leaf::ErrorCode),
                b"message" => L(Leaf::ErrorMessage),
                b"data" => L(Leaf::ErrorData),
                _ => Target::Skip,
            },
            _ => Target::Skip,
        }
    }

    /// What an element of this array leads to.
    pub(super) const fn element(self) -> Target {
        match self {
            Self::Batch => Target::Node(Self::Message),
            Self::Content => Target::Node(Self::ContentItem),
            Self::InnerContent => Target::Node(Self::InnerContentItem),
            _ => Target::Skip,
        }
    }

    /// Whether it is wanted as an array (or else as an object).
    pub(super) const fn is_array(self) -> bool {
        matches!(self, Self::Batch | Self::Tools | Self::Content | Self::InnerContent)
    }

    /// The leaves below it.
    pub(super) const fn leaves(self) -> std::ops::Range<usize> {
        let (first, last) = match self {
            Self::Params => (Leaf::Name, Leaf::MetaClientVersion),
            Self::ClientInfo => (Leaf::ClientName, Leaf::ClientVersion),
            Self::Meta => (Leaf::MetaVersion, Leaf::MetaClientVersion),
            Self::MetaClientInfo => (Leaf::MetaClientName, Leaf::MetaClientVersion),
            Self::Result => (Leaf::IsError, Leaf::InnerErrorMessage),
            Self::Task => (Leaf::TaskId, Leaf::TaskId),
            Self::Content => (Leaf::ContentText, Leaf::ContentText),
            Self::InnerResult => (Leaf::InnerIsError, Leaf::InnerContentText),
            Self::InnerContent => (Leaf::InnerContentText, Leaf::InnerContentText),
            Self::ParamsResult => (Leaf::ParamsIsError, Leaf::ParamsIsError),
            Self::ParamsError => (Leaf::ParamsErrorCode, Leaf::ParamsErrorMessage),
            Self::InnerError => (Leaf::InnerErrorCode, Leaf::InnerErrorMessage),
            Self::Error => (Leaf::ErrorCode, Leaf::ErrorData),
            Self::Batch | Self::Message | Self::Tools | Self::ContentItem | Self::InnerContentItem => {
                return 0..0;
            }
        };
        first as usize..last as usize + 1
    }
}

fn params_child(key: &[u8]) -> Target {
    match key {
        b"name" => Target::Leaf(Leaf::Name),
        b"requestId" => Target::Leaf(Leaf::RequestId),
        b"reason" => Target::Leaf(Leaf::Reason),
        b"progressToken" => Target::Leaf(Leaf::ProgressToken),
        b"taskId" => Target::Leaf(Leaf::ParamsTaskId),
        b"status" => Target::Leaf(Leaf::ParamsStatus),
        b"statusMessage" => Target::Leaf(Leaf::ParamsStatusMessage),
        b"result" => Target::Node(Node::ParamsResult),
        b"error" => Target::Node(Node::ParamsError),
        b"requestState" => Target::Leaf(Leaf::ParamsRequestState),
        b"protocolVersion" => Target::Leaf(Leaf::ParamsVersion),
        b"clientInfo" => Target::Node(Node::ClientInfo),
        b"_meta" => Target::Node(Node::Meta),
        _ => Target::Skip,
    }
}

fn result_child(key: &[u8]) -> Target {
    match key {
        b"isError" => Target::Leaf(Leaf::IsError),
        b"resultType" => Target::Leaf(Leaf::ResultType),
        b"taskId" => Target::Leaf(Leaf::ResultTaskId),
        b"status" => Target::Leaf(Leaf::ResultStatus),
        b"statusMessage" => Target::Leaf(Leaf::ResultStatusMessage),
        b"protocolVersion" => Target::Leaf(Leaf::ResultVersion),
        b"requestState" => Target::Leaf(Leaf::ResultRequestState),
        b"task" => Target::Node(Node::Task),
        b"tools" => Target::Node(Node::Tools),
        b"content" => Target::Node(Node::Content),
        b"result" => Target::Node(Node::InnerResult),
        b"error" => Target::Node(Node::InnerError),
        _ => Target::Skip,
    }
}

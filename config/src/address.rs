//! Which address is the client's, and how much of it is kept. Plain data.

/// Which header a trusted proxy writes the client's address into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// Whichever is there. Where both are and they say different things, one of them may be the client's own word: then
    /// neither is believed, and the client is nobody known.
    Any,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// How much of a client's IP address a record keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientIp {
    /// Nothing.
    Off,
    /// The network: /24 of an IPv4 address, /48 of an IPv6 address.
    Prefix,
    /// A keyed hash of the whole address.
    Hash,
    /// The whole address.
    Full,
}

/// How long the keyed hash of one address stays the same. Periods are those of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashRotation {
    /// A day.
    Day,
    /// A month of the calendar.
    Month,
    /// For ever.
    Never,
}

//! The real program between real MCP clients and servers, one file per behaviour.

mod own_answers;
mod peers_typescript;
mod support;

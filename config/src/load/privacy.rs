//! `[privacy]`.

use super::section::Section;
use crate::{ClientIp, Privacy};

pub(super) fn read_privacy(root: &mut Section<'_, '_>) -> Privacy {
    let default = Privacy::default();
    let mut section = root.section("privacy");
    let choices = [("prefix", ClientIp::Prefix), ("off", ClientIp::Off), ("full", ClientIp::Full)];
    let privacy = Privacy { client_ip: section.choice("client_ip", default.client_ip, &choices) };
    section.finish();
    privacy
}

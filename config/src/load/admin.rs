//! `[admin]`.

use std::net::SocketAddr;

use super::listen;
use super::section::Section;
use crate::{Admin, Place, Problem};

pub(super) fn read_admin(root: &mut Section<'_, '_>, proxy_listen: SocketAddr) -> Admin {
    let default = Admin::default();
    let mut section = root.section("admin");
    let admin = Admin {
        listen: listen::read_listen(&mut section, default.listen),
        allow_remote: section.boolean("allow_remote", default.allow_remote),
    };
    if listen::collide(admin.listen, proxy_listen) {
        report_collision(&mut section);
    }
    if !admin.allow_remote && !admin.listen.ip().to_canonical().is_loopback() {
        report_remote(&mut section);
    }
    section.finish();
    admin
}

/// Points at the address that was written; they cannot both be defaults, because those differ.
fn report_collision(section: &mut Section<'_, '_>) {
    let (own, other) = (section.place_of("admin.listen"), section.place_of("proxy.listen"));
    let problem = Problem::new("listen-collision", "`admin.listen` and `proxy.listen` are the same address")
        .help("give the dashboard its own port, or port 0 for a free one");
    let problem = match own {
        Place::Nowhere => problem.at(other).label("the default of `admin.listen`"),
        own => problem.at(own).label("the address of the proxy").related(&other, "the proxy listens here"),
    };
    section.report(problem);
}

fn report_remote(section: &mut Section<'_, '_>) {
    let place = section.place_of("admin.listen");
    let problem = Problem::new("admin-remote", "`admin.listen` is not a loopback address")
        .at(place)
        .label("reachable from other machines")
        .help(
            "there is no authentication: use 127.0.0.1 or [::1] behind a tunnel,\n\
             or set `allow_remote = true` if the network itself keeps strangers out",
        );
    section.report(problem);
}

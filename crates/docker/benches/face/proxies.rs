//! Two reverse proxies of Debian 13's, set up for the same work: HTTP/1.1 from one Unix socket to another, connections
//! kept, nothing buffered to files, nothing logged.

use std::path::{Path, PathBuf};
use std::process::Command;

use dhow_testkit::{debian, place, tools};

type Proxy = fn(&Path, &Path, &Path) -> Result<Command, String>;

pub const ALL: [(&str, Proxy); 2] = [("nginx", nginx), ("haproxy", haproxy)];

/// A program of the tree that holds both, started with the tree's own C library.
fn program(name: &str, dir: &Path) -> Result<PathBuf, String> {
    let tree =
        debian::tree("proxies", &["base-files", "nginx", "haproxy"]).map_err(|error| error.to_string())?;
    let script = dir.join(format!("run-{name}"));
    tools::wrap(&tree, &format!("usr/sbin/{name}"), &script).map_err(|error| error.to_string())?;
    Ok(script)
}

fn nginx(dir: &Path, listen: &Path, upstream: &Path) -> Result<Command, String> {
    let program = program("nginx", dir)?;
    let own = dir.join("nginx-files");
    std::fs::create_dir_all(&own).unwrap();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", own.display()))
        .concat();
    let settings = format!(
        "user root;\nworker_processes auto;\ndaemon off;\npid {own}/pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n{temporary}access_log off;\nclient_max_body_size 0;\n\
         upstream engine {{ server unix:{upstream}; keepalive 64; keepalive_requests 1000000; }}\n\
         server {{\nlisten unix:{listen};\nkeepalive_requests 1000000;\n\
         location / {{\nproxy_pass http://engine;\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\n\
         proxy_set_header Host docker;\nproxy_buffering off;\nproxy_request_buffering off;\nproxy_read_timeout 1h;\n}}\n}}\n}}\n",
        own = own.display(),
        upstream = upstream.display(),
        listen = listen.display(),
    );
    let file = own.join("nginx.conf");
    place::write(&file, settings).unwrap();
    let mut command = Command::new(program);
    command.args(["-e", "stderr", "-p"]).arg(&own).arg("-c").arg(file);
    Ok(command)
}

fn haproxy(dir: &Path, listen: &Path, upstream: &Path) -> Result<Command, String> {
    let program = program("haproxy", dir)?;
    let settings = format!(
        "global\n  maxconn 1024\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  http-reuse always\n  option http-no-delay\n\
         frontend clients\n  bind unix@{}\n  default_backend engine\n\
         backend engine\n  server dockerd unix@{}\n",
        listen.display(),
        upstream.display()
    );
    let file = dir.join("haproxy.cfg");
    place::write(&file, settings).unwrap();
    let mut command = Command::new(program);
    command.args(["-db", "-q", "-f"]).arg(file);
    Ok(command)
}

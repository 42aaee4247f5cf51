//! nginx, as the upstream that is not measured, and as the peer that is.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use witgate_tests::authority::Authority;
use witgate_tests::process::Process;
use witgate_tests::waiting::until;

use crate::cpu;

/// A running nginx.
pub(crate) struct Nginx {
    process: Process,
    _folder: TempDir,
}

/// Where the upstream listens: it serves the same over HTTP/1.1 alone, and over either.
pub(crate) struct Upstream {
    pub(crate) nginx: Nginx,
    /// Offers HTTP/2 and HTTP/1.1.
    pub(crate) port: u16,
    /// Offers HTTP/1.1 alone.
    pub(crate) port_http1: u16,
}

impl Upstream {
    /// Serves what stands in `documents`.
    pub(crate) async fn start(authority: &Authority, documents: &Path) -> Self {
        let [port, port_http1] = free_ports();
        let server = |listen: &str| {
            format!(
                "server {{ listen 127.0.0.1:{listen}; root {}; default_type application/json; }}",
                documents.display()
            )
        };
        let servers = [server(&format!("{port} ssl http2")), server(&format!("{port_http1} ssl"))];
        let nginx = Nginx::start(authority, &servers.join("\n"), port).await;
        Self { nginx, port, port_http1 }
    }
}

impl Nginx {
    /// A reverse proxy before the upstream, with TLS on both legs, and the port at which it listens.
    ///
    /// To its upstream it speaks HTTP/1.1: nginx has no HTTP/2 there.
    pub(crate) async fn proxy(authority: &Authority, upstream: &Upstream, token: &str) -> (Self, u16) {
        let [port] = free_ports();
        let servers = format!(
            "upstream api {{ server 127.0.0.1:{}; keepalive 300; keepalive_requests 1000000000; }}
             server {{
               listen 127.0.0.1:{port} ssl http2;
               location / {{
                 proxy_pass https://api;
                 proxy_http_version 1.1;
                 proxy_set_header Connection '';
                 proxy_set_header Authorization 'Bearer {token}';
                 proxy_ssl_verify on;
                 proxy_ssl_protocols TLSv1.3;
                 proxy_ssl_name localhost;
                 proxy_ssl_trusted_certificate ca.pem;
                 proxy_ssl_session_reuse on;
               }}
             }}",
            upstream.port_http1
        );
        (Self::start(authority, &servers, port).await, port)
    }

    async fn start(authority: &Authority, servers: &str, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = authority.server();
        let file = |name: &str, text: &str| -> PathBuf {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        file("tls.crt", &identity.certificate_pem());
        file("tls.key", &identity.key_pem());
        file("ca.pem", &authority.pem());
        let configuration = file(
            "nginx.conf",
            &format!(
                "daemon off; worker_processes 2; pid nginx.pid; error_log stderr warn;
                 events {{ worker_connections 4096; }}
                 http {{
                   access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; http2_max_concurrent_streams 1024;
                   sendfile on; tcp_nopush off; tcp_nodelay on;
                   ssl_certificate tls.crt; ssl_certificate_key tls.key; ssl_protocols TLSv1.3;
                   client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                   {servers}
                 }}"
            ),
        );
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg(configuration);
        if is_root() {
            // Its workers must read the folder, as the user does who runs this.
            command.args(["-g", "user root;"]);
        }
        let process = Process::start(&mut command);
        until("nginx listens", || async {
            assert!(!process.has_ended(), "nginx: {}", process.stderr.text());
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Self { process, _folder: folder }
    }

    /// The master and its workers.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let master = self.process.pid();
        let mut pids = cpu::children(master);
        pids.push(master);
        pids
    }
}

/// The master ends its workers with itself only when it is asked.
impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.terminate();
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0)
}

/// Ports that nobody had a moment ago: nginx cannot tell which it was given.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = std::array::from_fn::<_, N, _>(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

//! An address at which nobody answers, until the test lets a server stand there.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A full accept queue: the kernel drops what comes next, as a machine that is off does.
pub struct BlackHole {
    listener: TcpListener,
    address: SocketAddr,
    _queued: Vec<TcpStream>,
}

/// How long a connection to this machine may take before the queue counts as full.
const FULL_AFTER: Duration = Duration::from_millis(300);

impl BlackHole {
    /// One on a free port.
    pub async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(connected) = tokio::time::timeout(FULL_AFTER, TcpStream::connect(address)).await {
            queued.push(connected.unwrap());
        }
        Self { listener, address, _queued: queued }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The listener, for a server that stands there from now on.
    pub fn into_listener(self) -> TcpListener {
        self.listener
    }
}

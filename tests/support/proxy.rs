//! A TCP proxy between the mount and a server, which can take the server away in several ways.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::StatusCode;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// What happens to connections, old and new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They reach the server.
    Pass,
    /// Open ones are cut, new ones are refused.
    Refuse,
    /// They stay open, and nothing moves.
    Stall,
    /// Every request is answered `503 Service Unavailable`.
    Unavailable,
}

/// A proxy on a port of its own; ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    connections: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Proxy {
    /// A proxy to `target`, which passes everything.
    pub fn to(target: SocketAddr) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime for the proxy");
        let (mode, modes) = watch::channel(Mode::Pass);
        let connections = Arc::new(AtomicU64::new(0));
        let (address, bound) = {
            let _inside = runtime.enter();
            let bound = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
            (bound.local_addr().expect("it is bound"), bound)
        };
        let sick = runtime.block_on(always_unavailable());
        let route = Route { target, sick, modes, connections: Arc::clone(&connections) };
        runtime.spawn(route.serve(address, bound));
        Proxy { address, mode, connections, _runtime: runtime }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens to all connections.
    pub fn set(&self, mode: Mode) {
        self.connections.store(0, Ordering::SeqCst);
        self.mode.send_replace(mode);
    }

    /// Connections that were accepted since the mode was set.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A bound port that does not listen refuses connections, and nobody else can take it meanwhile.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn always_unavailable() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let answer = Router::new().fallback(|| async { StatusCode::SERVICE_UNAVAILABLE });
    tokio::spawn(async { axum::serve(listener, answer).await });
    address
}

#[derive(Clone)]
struct Route {
    target: SocketAddr,
    sick: SocketAddr,
    modes: watch::Receiver<Mode>,
    connections: Arc<AtomicU64>,
}

impl Route {
    async fn serve(mut self, address: SocketAddr, mut bound: TcpSocket) {
        loop {
            let mode = *self.modes.borrow_and_update();
            if mode == Mode::Refuse {
                if self.modes.changed().await.is_err() {
                    return;
                }
            } else {
                let listener = bound.listen(1024).expect("the port is ours");
                if self.accept(&listener, mode).await.is_err() {
                    return;
                }
                drop(listener);
                bound = bind(address).expect("the port is ours");
                continue;
            }
        }
    }

    /// Until the mode changes.
    async fn accept(&mut self, listener: &TcpListener, mode: Mode) -> Result<(), watch::error::RecvError> {
        loop {
            tokio::select! {
                changed = self.modes.changed() => return changed,
                accepted = listener.accept() => {
                    let Ok((client, _)) = accepted else { continue };
                    self.connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(self.clone().carry(client, mode));
                }
            }
        }
    }

    async fn carry(mut self, mut client: TcpStream, mode: Mode) {
        let server = match mode {
            Mode::Pass => self.target,
            Mode::Unavailable => self.sick,
            Mode::Refuse | Mode::Stall => return self.hold().await,
        };
        client.set_nodelay(true).ok();
        let Ok(mut server) = TcpStream::connect(server).await else { return };
        server.set_nodelay(true).ok();
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => {}
            () = self.hold() => {}
        }
    }

    /// Until a connection of this mode is to be cut: a stall keeps those that it finds.
    async fn hold(&mut self) {
        while self.modes.changed().await.is_ok() {
            if *self.modes.borrow_and_update() != Mode::Stall {
                return;
            }
        }
    }
}

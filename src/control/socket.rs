use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{UnixListener, UnixStream};

/// The socket of the bridge with this state directory.
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// A Unix socket that talks only to root and to the daemon's own user, whatever the permissions of the
/// folders above it. The file goes away with it.
#[derive(Debug)]
pub struct PrivateListener {
    inner: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl PrivateListener {
    /// Listens at `path`. A socket that a dead daemon left there is replaced: the caller holds the lock of
    /// the state directory, so no living one can be behind it.
    pub fn bind(path: &Path) -> io::Result<PrivateListener> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let inner = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(PrivateListener { inner, path: path.to_owned(), owner: nix::unistd::getuid().as_raw() })
    }

    async fn accept_friend(&self) -> io::Result<(UnixStream, Peer)> {
        loop {
            let (stream, _) = self.inner.accept().await?;
            let uid = stream.peer_cred()?.uid();
            if uid == 0 || uid == self.owner {
                return Ok((stream, Peer { uid }));
            }
            tracing::warn!(uid, "a stranger knocked at the control socket");
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    uid: u32,
}

impl Peer {
    /// The name for the event log: the user's, or `uid 1234`.
    pub fn name(self) -> String {
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(self.uid));
        user.ok().flatten().map_or_else(|| format!("uid {}", self.uid), |user| user.name)
    }
}

impl Connected<IncomingStream<'_, PrivateListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, PrivateListener>) -> Peer {
        *stream.remote_addr()
    }
}

impl Drop for PrivateListener {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket was already gone");
        }
    }
}

impl axum::serve::Listener for PrivateListener {
    type Io = UnixStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (UnixStream, Peer) {
        loop {
            match self.accept_friend().await {
                Ok(friend) => return friend,
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot take a connection");
                    // Out of descriptors: without a pause this would spin until there are some again.
                    crate::clock::sleep(std::time::Duration::from_millis(200)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { uid: self.owner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_private_replaces_a_stale_one_and_goes_away() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = socket_path(dir.path());
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a dead daemon's socket"));
        assert!(path.exists());
        let listener = PrivateListener::bind(&path).expect("replaces it");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (client, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept_friend());
        assert!(client.is_ok() && accepted.is_ok());
        drop(listener);
        assert!(!path.exists());
    }
}

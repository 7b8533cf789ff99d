//! Credentials that stand in files, read again when they change. A file that is gone, or cannot be
//! read, keeps the last text.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::rpc::secret::Secret;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at the files of `secrets` for ever.
pub(super) async fn follow(secrets: Vec<Secret>) {
    let mut seen: Vec<Option<SystemTime>> = secrets.iter().map(modified).collect();
    loop {
        tokio::time::sleep(LOOK).await;
        for (secret, seen) in secrets.iter().zip(&mut seen) {
            let now = modified(secret);
            if now.is_none() || now == *seen {
                continue;
            }
            *seen = now;
            let file: PathBuf = secret.file().map(PathBuf::from).unwrap_or_default();
            match std::fs::read_to_string(&file) {
                Ok(text) if secret.replace(text.trim_end()) => {
                    tracing::info!(file = %file.display(), "Credentials were read again.");
                }
                Ok(_) => {}
                Err(e) => {
                    let file = file.display();
                    tracing::warn!(%file, error = %e, "Credentials stay as they are.");
                }
            }
        }
    }
}

fn modified(secret: &Secret) -> Option<SystemTime> {
    std::fs::metadata(secret.file()?).ok()?.modified().ok()
}

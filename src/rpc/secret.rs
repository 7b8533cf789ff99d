//! A text that may stand in a file, which its owner reads again when it has changed. Pure: whoever
//! reads the file is not here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// A text that is not printed. A clone is the same text: all cores see the next one at once.
#[derive(Clone)]
pub struct Secret {
    file: Option<PathBuf>,
    text: Arc<RwLock<Arc<str>>>,
}

impl Secret {
    /// A text that stays.
    #[must_use]
    pub fn fixed(text: &str) -> Self {
        Self { file: None, text: Arc::new(RwLock::new(text.into())) }
    }

    /// A text that was read from `file`.
    #[must_use]
    pub fn of_file(file: PathBuf, text: &str) -> Self {
        Self { file: Some(file), ..Self::fixed(text) }
    }

    /// Where it stands.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The text of now.
    #[must_use]
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.text.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another text in place; true if it differs.
    pub fn replace(&self, text: &str) -> bool {
        let mut held = self.text.write().unwrap_or_else(PoisonError::into_inner);
        let differs = **held != *text;
        *held = text.into();
        differs
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("file", &self.file).finish_non_exhaustive()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file && self.text() == other.text()
    }
}

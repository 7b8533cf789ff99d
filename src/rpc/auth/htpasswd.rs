//! Apache's file of names and hashed passwords: bcrypt, MD5 (`$apr1$`, `$1$`), SHA-1 with and
//! without salt, and plain text. Others are refused by name. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use sha1::Sha1;

use super::is_same;

/// Names and hashes; of a name that stands twice the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Htpasswd(Vec<(String, Hash)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hash {
    Bcrypt(String),
    /// Magic, salt, hash.
    Md5(&'static str, String, String),
    Sha(Vec<u8>),
    /// Hash and salt.
    SaltedSha(Vec<u8>, Vec<u8>),
    Plain(String),
}

const SHA_BYTES: usize = 20;

impl Htpasswd {
    /// Reads lines of `name:hash`; empty lines and comments are passed over.
    ///
    /// # Errors
    /// What is wrong, with the number of the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut all = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = at + 1;
            let (name, hash) = line
                .split_once(':')
                .ok_or_else(|| format!("line {number} of htpasswd is not name:password"))?;
            let hash =
                Hash::parse(hash).map_err(|what| format!("line {number} of htpasswd {what}"))?;
            all.push((name.to_owned(), hash));
        }
        Ok(Self(all))
    }

    /// Whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the password is that of the name. Takes milliseconds with bcrypt.
    #[must_use]
    pub fn matches(&self, name: &str, password: &str) -> bool {
        let hash = self.0.iter().rev().find(|(n, _)| n == name);
        hash.is_some_and(|(_, hash)| hash.is_of(password))
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, String> {
        let sha = |coded: &str| BASE64.decode(coded).map_err(|_| "has no base64".to_owned());
        if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|magic| text.starts_with(magic)) {
            return Ok(Self::Bcrypt(text.to_owned()));
        }
        for magic in ["$apr1$", "$1$"] {
            if let Some((salt, hash)) = text.strip_prefix(magic).and_then(|t| t.split_once('$')) {
                return Ok(Self::Md5(magic, salt.chars().take(8).collect(), hash.to_owned()));
            }
        }
        if let Some(coded) = text.strip_prefix("{SHA}") {
            return Ok(Self::Sha(sha(coded)?));
        }
        if let Some(coded) = text.strip_prefix("{SSHA}") {
            let bytes = sha(coded)?;
            let (hash, salt) = bytes.split_at_checked(SHA_BYTES).ok_or("is too short")?;
            return Ok(Self::SaltedSha(hash.to_vec(), salt.to_vec()));
        }
        if text.starts_with("$5$") || text.starts_with("$6$") {
            return Err("has a hash of SHA-2, which is not in this release: use bcrypt".into());
        }
        Ok(Self::Plain(text.to_owned()))
    }

    fn is_of(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Md5(magic, salt, hash) => is_same(
                md5_crypt(password.as_bytes(), salt.as_bytes(), magic).as_bytes(),
                hash.as_bytes(),
            ),
            Self::Sha(hash) => is_same(&Sha1::digest(password.as_bytes()), hash),
            Self::SaltedSha(hash, salt) => {
                let salted = [password.as_bytes(), salt].concat();
                is_same(&Sha1::digest(salted), hash)
            }
            Self::Plain(plain) => is_same(password.as_bytes(), plain.as_bytes()),
        }
    }
}

/// The hash of FreeBSD's crypt, which Apache took over.
fn md5_crypt(password: &[u8], salt: &[u8], magic: &str) -> String {
    let digest = |parts: &[&[u8]]| -> [u8; 16] { Md5::digest(parts.concat()).into() };
    let inner = digest(&[password, salt, password]);
    let mut first = [password, magic.as_bytes(), salt].concat();
    first.extend(inner.iter().cycle().take(password.len()));
    let mut bits = password.len();
    while bits > 0 {
        first.push(if bits & 1 == 1 { 0 } else { password.first().copied().unwrap_or(0) });
        bits >>= 1;
    }
    let mut hash: [u8; 16] = Md5::digest(first).into();
    for round in 0..1000 {
        let own = |odd: bool| if odd { password } else { &hash[..] };
        let odd = round % 2 == 1;
        let salt = if round % 3 == 0 { &[][..] } else { salt };
        let again = if round % 7 == 0 { &[][..] } else { password };
        hash = digest(&[own(odd), salt, again, own(!odd)]);
    }
    const LETTERS: &[u8] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(22);
    let mut push = |mut bits: u32, letters: usize| {
        for _ in 0..letters {
            text.push(char::from(LETTERS[(bits & 0x3f) as usize]));
            bits >>= 6;
        }
    };
    for [a, b, c] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        push(u32::from(hash[a]) << 16 | u32::from(hash[b]) << 8 | u32::from(hash[c]), 4);
    }
    push(u32::from(hash[11]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by htpasswd and openssl.
    const FILE: &str = "# users\n\
        bcrypt:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n\
        apr:$apr1$abcdefgh$/cesMUEGhga5MgaTGywaW0\n\
        md5:$1$abcdefgh$irWbblnpmw.5z7wgBnprh0\n\
        sha:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=\n\
        \n\
        plain:test\n\
        twice:one\n\
        twice:two\n";

    #[test]
    fn passwords_are_known_by_any_hash() {
        let users = Htpasswd::parse(FILE).unwrap();
        for (name, password, right) in [
            ("bcrypt", "myPassword", true),
            ("bcrypt", "mypassword", false),
            ("apr", "test", true),
            ("apr", "tesT", false),
            ("md5", "test", true),
            ("sha", "test", true),
            ("sha", "", false),
            ("plain", "test", true),
            ("twice", "two", true),
            ("twice", "one", false),
            ("nobody", "test", false),
        ] {
            assert_eq!(users.matches(name, password), right, "{name} {password}");
        }
    }

    #[test]
    fn lines_that_are_none_are_named() {
        for (text, want) in [
            ("a:b\nc", "line 2 of htpasswd is not name:password"),
            ("a:{SHA}?", "line 1 of htpasswd has no base64"),
            ("a:{SSHA}aaaa", "line 1 of htpasswd is too short"),
            ("a:$6$x$y", "line 1 of htpasswd has a hash of SHA-2"),
        ] {
            assert!(Htpasswd::parse(text).unwrap_err().starts_with(want), "{text}");
        }
    }
}

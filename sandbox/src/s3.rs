//! A stand-in for an S3 store (Tigris): `s3s-fs` with one bucket in a folder, signatures checked, plus what
//! it lacks – lifecycle rules, the list of uploads – and switches that break it.

mod store;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{Router, error_handling::HandleError, http::StatusCode};
use parking_lot::Mutex;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tempfile::TempDir;

use self::store::Store;
use crate::serve::Served;

/// The bucket.
pub const BUCKET: &str = "growth-chat";
/// Who may use it.
pub const ACCESS_KEY_ID: &str = "sandbox";
/// Their secret, which is none.
pub const SECRET_ACCESS_KEY: &str = "sandbox-secret";

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 500, and nothing was done.
    Refuse,
    /// The same, with words that quote the keys of whoever asked.
    Quote,
    /// No answer, and nothing was done.
    Hang,
    /// It was done, and the answer is a 500.
    LoseAnswer,
}

/// What is broken.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The part of this number.
    pub part: Option<(i32, Fault)>,
    /// The beginning of an upload.
    pub begin: Option<Fault>,
    /// The completion of an upload.
    pub complete: Option<Fault>,
    /// The writing of a whole object.
    pub put: Option<Fault>,
    /// The deletion of an object.
    pub delete: Option<Fault>,
    /// There is no bucket.
    pub gone: bool,
    /// `If-None-Match` is answered with 501.
    pub no_conditions: bool,
    /// Lifecycle rules are answered with 501.
    pub no_lifecycle: bool,
}

/// A lifecycle rule that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// Which keys it is about.
    pub prefix: String,
    /// After how many days they expire.
    pub days: Option<i32>,
}

/// The store, served until it is dropped.
#[derive(Debug)]
pub struct S3 {
    served: Served,
    store: Store,
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl S3 {
    /// Serves a store on a port, or with 0 on a free one. Its objects are in a folder, or in a temporary
    /// one that goes with it.
    pub async fn start(folder: Option<PathBuf>, port: u16) -> io::Result<Self> {
        let (folder, temporary) = if let Some(folder) = folder {
            (folder, None)
        } else {
            let temporary = tempfile::Builder::new()
                .prefix("growth-chat-bucket-")
                .tempdir()?;
            (temporary.path().to_owned(), Some(temporary))
        };
        fs::create_dir_all(folder.join(BUCKET))?;
        let store = Store::open(&folder)?;
        let mut builder = S3ServiceBuilder::new(store.clone());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let service = HandleError::new(builder.build(), |_| async {
            StatusCode::INTERNAL_SERVER_ERROR
        });
        let served = Served::start(Router::new().fallback_service(service), port).await?;
        Ok(Self {
            served,
            store,
            folder,
            _temporary: temporary,
        })
    }

    /// Its address, for `TIGRIS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// The variables by which the product finds it.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("TIGRIS_ENDPOINT_URL", self.url()),
            ("TIGRIS_BUCKET_NAME", BUCKET.to_owned()),
            ("TIGRIS_ACCESS_KEY_ID", ACCESS_KEY_ID.to_owned()),
            ("TIGRIS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.to_owned()),
        ]
    }

    /// Breaks and mends it.
    pub fn set_faults(&self, faults: Faults) {
        *self.store.faults.lock() = faults;
    }

    /// The keys of all objects, in order.
    pub fn keys(&self) -> Vec<String> {
        let bucket = self.folder.join(BUCKET);
        let mut keys = Vec::new();
        let mut open = vec![bucket.clone()];
        while let Some(folder) = open.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                if path.is_dir() {
                    open.push(path);
                } else if let Ok(key) = path.strip_prefix(&bucket) {
                    keys.push(key.to_string_lossy().into_owned());
                }
            }
        }
        keys.sort();
        keys
    }

    /// Where an object's bytes are, for whoever looks at them or spoils them.
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.join(BUCKET).join(Path::new(key))
    }

    /// The keys that unfinished uploads lead to.
    pub fn uploads(&self) -> Vec<String> {
        let uploads = self.store.uploads.lock();
        uploads.values().map(|upload| upload.key.clone()).collect()
    }

    /// The lifecycle rules.
    pub fn rules(&self) -> Vec<Rule> {
        self.store.told_rules()
    }

    /// How many parts were taken.
    pub fn parts(&self) -> usize {
        *self.store.parts.lock()
    }
}

type Shared<T> = Arc<Mutex<T>>;

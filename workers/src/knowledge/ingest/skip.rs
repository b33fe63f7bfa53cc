//! What was left out, and why.

use crate::{clients::guarded::Refused, knowledge::extract::ExtractError};

/// Something that was left out, wholly or in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The path or address, as it was given or found.
    pub what: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why something was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// A root that does not exist or can't be opened.
    #[error("does not exist or can't be opened")]
    NotFound,
    /// A root without a name of its own, such as `/`.
    #[error("has no name: give a folder below it")]
    NoName,
    /// Another root of the same call has the same name.
    #[error("another path of this call has the same folder name")]
    SameName,
    /// A file that was asked for by its name and is not one of the formats.
    #[error("is neither Markdown (.md, .markdown), text (.txt), HTML (.html, .htm) nor PDF (.pdf)")]
    UnknownFormat,
    /// A file of a folder that is not one of the formats.
    #[error("is of a format that is not read")]
    OtherFormat,
    /// A name that begins with a dot.
    #[error("is hidden")]
    Hidden,
    /// A folder or site without a single document. Nothing of it is removed either: more likely a
    /// wrong path.
    #[error("has no document in it")]
    NoDocuments,
    /// More than 5 MB.
    #[error("is larger than 5 MB")]
    TooLarge,
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotUtf8,
    /// A NUL, which the database can't keep; the file is hardly text.
    #[error("contains a NUL character")]
    Nul,
    /// The file's name is not UTF-8.
    #[error("has a name that is not UTF-8")]
    NameNotUtf8,
    /// A symbolic link to somewhere outside of the root.
    #[error("is a symbolic link that leads out of the folder")]
    LinkOutside,
    /// The operating system refused.
    #[error("can't be read")]
    Unreadable,
    /// HTML or PDF that can't be read.
    #[error(transparent)]
    Extract(ExtractError),
    /// Some pages of a PDF can't be read; the others are indexed.
    #[error("is indexed without {0} of its {1} pages, which can't be read")]
    Pages(u32, u32),
    /// The site's robots.txt can't be had, which means: stay away.
    #[error("is not crawled: its robots.txt can't be had")]
    RobotsUnreachable,
    /// The site's robots.txt asks us not to.
    #[error("is not to be crawled, as its robots.txt says")]
    Disallowed,
    /// The page asks not to be found.
    #[error("asks not to be indexed")]
    NoIndex,
    /// The page says that another one is the proper one.
    #[error("names another page as the proper one")]
    NotCanonical,
    /// It redirects to another host.
    #[error("redirects to another host: give its address to crawl that")]
    OtherHost,
    /// It redirects too often.
    #[error("redirects too often")]
    Redirects,
    /// An address that is not reached, see [`Refused`].
    #[error(transparent)]
    Refused(Refused),
    /// The server answered so.
    #[error("answered with status {0}")]
    Status(u16),
    /// A page that was asked for by its address is not there.
    #[error("is not there (404 or 410)")]
    Gone,
    /// No connection, or one that broke.
    #[error("can't be reached")]
    Unreachable,
    /// The server took longer than 20 s.
    #[error("took longer than 20 s")]
    TooSlow,
    /// A sitemap that is none.
    #[error("is no sitemap")]
    BadSitemap,
    /// More pages than `--max-pages`.
    #[error("has more pages than --max-pages: the rest was not looked at, and nothing was removed")]
    TooManyPages,
    /// Pages further away than `--max-depth`.
    #[error("has pages deeper than --max-depth: they were not looked at, and nothing was removed")]
    TooDeep,
}

impl SkipReason {
    /// Whether somebody should do something about it.
    pub fn is_error(self) -> bool {
        !matches!(
            self,
            Self::Empty
                | Self::LinkOutside
                | Self::Hidden
                | Self::OtherFormat
                | Self::Disallowed
                | Self::NoIndex
                | Self::NotCanonical
                | Self::OtherHost
                | Self::TooManyPages
                | Self::TooDeep
        )
    }
}

impl From<ExtractError> for SkipReason {
    fn from(error: ExtractError) -> Self {
        Self::Extract(error)
    }
}

impl From<Refused> for SkipReason {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

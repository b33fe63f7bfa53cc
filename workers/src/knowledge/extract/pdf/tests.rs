use pdf_extract::content::{Content, Operation};
use pdf_extract::{Dictionary, Object, Stream, dictionary};

use super::*;


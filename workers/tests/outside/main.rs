//! The clients over real connections, and the knowledge base over a real database.

mod anthropic;
mod embeddings;
mod indexing;
mod support;

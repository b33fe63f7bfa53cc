//! The clients over real connections, and the knowledge base over a real database.

#[cfg(test)]
mod anthropic;
#[cfg(test)]
mod conversation;
#[cfg(test)]
mod crm_webhook;
#[cfg(test)]
mod dossiers;
#[cfg(test)]
mod embeddings;
#[cfg(test)]
mod fallback;
#[cfg(test)]
mod full_text;
#[cfg(test)]
mod hubspot;
#[cfg(test)]
mod indexing;
#[cfg(test)]
mod knowledge_base;
#[cfg(test)]
mod searching;
#[cfg(test)]
mod slack;
#[cfg(test)]
mod slack_erasure;
#[cfg(test)]
mod slack_reminder;
#[cfg(test)]
mod smtp;
#[cfg(test)]
mod spending;
#[cfg(test)]
mod staging;
#[cfg(test)]
mod stand_ins;
#[cfg(test)]
mod support;
#[cfg(test)]
mod turn_world;
#[cfg(test)]
mod turns;

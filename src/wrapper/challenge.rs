//! The stream to the warden on which this process answers for itself.

use crate::grpc::MAX_MESSAGE;
use crate::grpc::client::{Backoff, connect};
use crate::wire::v1::ChallengeReply;
use crate::wire::v1::warden_service_client::WardenServiceClient;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// A stream that held this long was a good one: the next attempt comes soon.
const GOOD: Duration = Duration::from_secs(2);

/// Answers every challenge at once, and connects again whenever the stream ends; for ever.
pub async fn answer(warden: PathBuf) {
    let mut backoff = Backoff::new();
    loop {
        let began = crate::clock::now();
        match answer_one_stream(&warden).await {
            Ok(()) => tracing::debug!("the warden ended the challenge stream"),
            Err(error) => tracing::debug!(%error, "no challenge stream"),
        }
        if crate::clock::now().saturating_since(began) >= GOOD {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn answer_one_stream(warden: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let connection = connect(warden).await?;
    let mut client = WardenServiceClient::new(connection.channel).max_decoding_message_size(MAX_MESSAGE);
    let (replies, outgoing) = mpsc::channel(8);
    replies.send(ChallengeReply { nonce: Vec::new() }).await?;
    let mut challenges = client.challenge(ReceiverStream::new(outgoing)).await?.into_inner();
    while let Some(challenge) = challenges.message().await? {
        replies.send(ChallengeReply { nonce: challenge.nonce }).await?;
    }
    Ok(())
}

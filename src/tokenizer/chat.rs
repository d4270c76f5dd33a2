//! stub
/// x
pub struct ChatTemplate;

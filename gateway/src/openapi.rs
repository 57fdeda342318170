use crate::routes::Routes;
use bytes::Bytes;
pub fn document(_routes: &Routes) -> Bytes {
    Bytes::new()
}

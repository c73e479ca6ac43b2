mod content;
mod orphans;
mod rig;
mod stores;
mod tree;

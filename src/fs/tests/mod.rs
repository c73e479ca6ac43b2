mod access;
mod content;
mod orphans;
mod ranges;
mod rig;
mod stores;
mod tree;

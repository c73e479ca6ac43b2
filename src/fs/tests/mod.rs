mod content;
mod orphans;
mod rig;
mod tree;

mod content;
mod orphans;
mod privileges;
mod ranges;
mod rig;
mod stores;
mod tree;
mod xattrs;

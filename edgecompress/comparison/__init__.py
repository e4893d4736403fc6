"""What differs between two bundles: what they say of themselves, and what they answer."""

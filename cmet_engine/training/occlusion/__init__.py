"""Training of the occlusion network on occluders drawn over bare faces (`cmet train occlusion`)."""

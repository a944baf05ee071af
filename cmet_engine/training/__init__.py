"""Training: data sets, augmentation and a recipe for each model. Imports the engine and is never imported by it."""

"""Teachers and the one training loop that finetune, distil and the pruning stages share."""

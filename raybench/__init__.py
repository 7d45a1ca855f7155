"""raybench: which model, trained how, on how many images, gives the best accuracy for its cost?"""

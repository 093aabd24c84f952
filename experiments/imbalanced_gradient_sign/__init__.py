"""P5: is a class of few training images more vulnerable to the gradient sign?"""
